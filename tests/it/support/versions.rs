//! Contents in which any mix of versions shows, and the ways to get at the content of an open file.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Every version is filled with one byte and has a size of its own, so any mix shows.
pub fn version(n: u64, size: usize) -> Vec<u8> {
    let mut content = vec![(n % 251) as u8; size + (n % 5000) as usize];
    content[..8].copy_from_slice(&n.to_be_bytes());
    content
}

/// The number of the version, if these bytes are one.
pub fn whole(content: &[u8], size: usize) -> u64 {
    let n = u64::from_be_bytes(content[..8].try_into().unwrap());
    assert_eq!(
        content.len(),
        size + (n % 5000) as usize,
        "the size of another version"
    );
    let byte = (n % 251) as u8;
    assert!(
        content[8..].iter().all(|other| *other == byte),
        "torn: a mix of versions"
    );
    n
}

/// The content through a held descriptor: read from the end to the start, in pieces, while versions
/// go by, and then once more in order.
pub fn held(file: &File) -> Vec<u8> {
    let mut content = vec![0; file.metadata().unwrap().len() as usize];
    for start in (0..content.len()).step_by(64 << 10).rev() {
        let end = content.len().min(start + (64 << 10));
        file.read_exact_at(&mut content[start..end], start as u64)
            .unwrap();
    }
    let (mut file, mut again) = (file, Vec::new());
    file.read_to_end(&mut again).unwrap();
    assert!(content == again, "a held descriptor changed");
    content
}

/// The content through a mapping, in which each page is read twice.
#[allow(unsafe_code)]
pub fn mapped(file: &File) -> Vec<u8> {
    use rustix::mm::{MapFlags, ProtFlags};
    let size = file.metadata().unwrap().len() as usize;
    // SAFETY: a fresh mapping of `size` bytes, read only below, and unmapped before returning; the
    // file system under test never changes the bytes of an inode.
    unsafe {
        let start = rustix::mm::mmap(
            std::ptr::null_mut(),
            size,
            ProtFlags::READ,
            MapFlags::SHARED,
            file,
            0,
        )
        .unwrap();
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), size);
        let (first, second) = (bytes.to_vec(), bytes.to_vec());
        rustix::mm::munmap(start, size).unwrap();
        assert!(first == second, "a mapping changed");
        first
    }
}

/// The content as sendfile(2) brings it.
pub fn sent(file: &File) -> Vec<u8> {
    let size = file.metadata().unwrap().len() as usize;
    let sink =
        File::from(rustix::fs::memfd_create("sent", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let mut n_sent = 0;
    while n_sent < size {
        match rustix::fs::sendfile(sink.as_fd(), file.as_fd(), None, size - n_sent).unwrap() {
            0 => break,
            n => n_sent += n,
        }
    }
    let mut content = vec![0; n_sent];
    sink.read_exact_at(&mut content, 0).unwrap();
    content
}
