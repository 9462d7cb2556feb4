//! Every way to choose, one after the other, that departs from the first way in no more places than a bound says.

/// What was chosen so far, and out of how many; then what comes first.
#[derive(Default, Debug)]
pub(super) struct Choices {
    bound: usize,
    made: Vec<(usize, usize)>,
    at: usize,
    departed: usize,
}

impl Choices {
    /// The first way; the others depart from it in `bound` places at most.
    pub(super) fn up_to(bound: usize) -> Self {
        Self { bound, ..Self::default() }
    }

    /// One of `options`.
    pub(super) fn choose(&mut self, options: usize) -> usize {
        if options < 2 || self.departed == self.bound {
            return 0;
        }
        if self.at == self.made.len() {
            self.made.push((0, options));
        }
        let (chosen, known) = self.made[self.at];
        assert_eq!(known, options, "the same choices lead to the same place");
        self.at += 1;
        self.departed += usize::from(chosen > 0);
        chosen
    }

    /// Begins again with the same choices.
    pub(super) fn again(&mut self) {
        (self.at, self.departed) = (0, 0);
    }

    /// Goes to the next way; false if all were gone.
    pub(super) fn next(&mut self) -> bool {
        self.again();
        while let Some((chosen, options)) = self.made.pop() {
            if chosen + 1 < options {
                self.made.push((chosen + 1, options));
                return true;
            }
        }
        false
    }
}
