//! Huge pages, which the process does without.
//!
//! The kernel may back memory with pages of 2 MiB. Then a process takes up to a
//! fifth more than it uses, and a ceiling on its memory says little. Redis does
//! without them too.

/// Asks the kernel not to back this process with huge pages from here on.
///
/// # Errors
/// The kernel refused; nothing else is wrong.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub fn disable() -> std::io::Result<()> {
    // SAFETY: the call takes integers only and changes nothing in this process'
    // memory.
    let status = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
