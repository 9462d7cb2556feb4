//! Power cuts at all calls that were recorded.

use super::bed::Cut;
use super::cut::Leaves;
use super::disk::Disk;
use super::is_whole;
use crate::thought::dice::Dice;

/// A power cut at one call, and what it leaves.
pub(crate) struct Blow<'a> {
    pub(crate) number: usize,
    pub(crate) cut: &'a Cut,
    pub(crate) leaves: Leaves,
}

impl Blow<'_> {
    /// What is there after it.
    pub(crate) fn disk(&self) -> Disk {
        self.cut.disk.after_power_cut(self.leaves)
    }

    pub(crate) fn told(&self) -> String {
        format!("the power cut before call {} ({}), leaving {:?}", self.number, self.cut.call, self.leaves)
    }
}

/// What is tried at these cuts. In short, one write of several to the same file stands for all of them.
pub(crate) fn blows<'a>(cuts: &'a [Cut], dice: &mut Dice) -> Vec<Blow<'a>> {
    let extremes = [Leaves::Nothing, Leaves::Everything, Leaves::Names, Leaves::Bytes];
    let mut all = Vec::new();
    for (number, cut) in cuts.iter().enumerate() {
        let is_another = number > 0 && cut.is_alike(&cuts[number - 1]) && dice.index(5) > 0;
        let leaves: Vec<Leaves> = match is_whole() {
            true => extremes.into_iter().chain((0..4).map(|_| Leaves::Some(dice.roll()))).collect(),
            false if is_another => Vec::new(),
            false => vec![extremes[number % 4], Leaves::Some(dice.roll())],
        };
        all.extend(leaves.into_iter().map(|leaves| Blow { number, cut, leaves }));
    }
    all
}
