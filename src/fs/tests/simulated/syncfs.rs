//! syncfs(2) on a simulated disk. The kernel does not pass it on to a FUSE server, and a simulated disk is one: there it goes through the one call
//! that is never made otherwise and reaches the server for certain. Everything else is as on any file system.

use std::os::fd::BorrowedFd;

use rustix::fs::fgetxattr;
use rustix::io::Errno;

/// Read with room for a byte it is syncfs; without, the question whether there is such a call.
pub(super) const SIMULATED_SYNCFS: &str = "user.hotspare.simulated-syncfs";

pub(in crate::fs) fn takes_syncfs(fd: BorrowedFd<'_>) -> bool {
    fgetxattr(fd, SIMULATED_SYNCFS, &mut [0_u8; 0]).is_ok()
}

pub(in crate::fs) fn syncfs(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match fgetxattr(fd, SIMULATED_SYNCFS, &mut [0_u8; 1]) {
        Ok(_) => Ok(()),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => rustix::fs::syncfs(fd),
        Err(error) => Err(error),
    }
}
