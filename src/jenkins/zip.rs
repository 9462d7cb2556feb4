//! Archives that pack nothing: all that a plugin needs to be one.

/// An archive of these files, by name and content.
pub(super) fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let offset = length(&archive);
        // Version 1.0, no flags, stored, 1 January 1980.
        let mut facts = [10_u16, 0, 0, 0, 33].map(u16::to_le_bytes).concat();
        facts.extend([crc32fast::hash(content), length(content), length(content)].map(u32::to_le_bytes).concat());
        facts.extend([u16::try_from(name.len()).unwrap_or_default(), 0].map(u16::to_le_bytes).concat());
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&facts);
        archive.extend_from_slice(name.as_bytes());
        archive.extend_from_slice(content);
        directory.extend_from_slice(b"PK\x01\x02\x0a\0");
        directory.extend_from_slice(&facts);
        // No comment, disk 0, no attributes.
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (count, begin, size) = (u16::try_from(files.len()).unwrap_or_default(), length(&archive), length(&directory));
    archive.append(&mut directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    archive.extend([count, count].map(u16::to_le_bytes).concat());
    archive.extend([size, begin].map(u32::to_le_bytes).concat());
    archive.extend_from_slice(&[0; 2]);
    archive
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
