//! A zip archive in memory (APPNOTE.TXT 6.3): deflated files with Unix modes.

use std::io::Write as _;

use flate2::{Compression, Crc, write::DeflateEncoder};

/// What unpacks the archive: version 2.0, on Unix, so that modes are kept.
const NEEDED: u16 = 20;
const MADE_BY: u16 = 0x0300 | NEEDED;
/// Names are UTF-8.
const UTF_8: u16 = 1 << 11;
const DEFLATED: u16 = 8;
/// 1980-01-01, so that the same files give the same archive.
const DATE: u16 = 0x21;
const REGULAR_FILE: u32 = 0o100_000;

/// An archive that grows.
#[derive(Default)]
pub(super) struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Zip {
    /// Adds a file.
    ///
    /// # Errors
    /// If the file or the archive is larger than 4 GiB.
    pub(super) fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> anyhow::Result<()> {
        let mut checksum = Crc::new();
        checksum.update(data);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data)?;
        let packed = encoder.finish()?;
        let offset = u32::try_from(self.bytes.len())?;

        let mut common = Vec::new();
        for field in [NEEDED, UTF_8, DEFLATED, 0, DATE] {
            common.extend(field.to_le_bytes());
        }
        for field in [checksum.sum(), u32::try_from(packed.len())?, u32::try_from(data.len())?] {
            common.extend(field.to_le_bytes());
        }
        for field in [u16::try_from(name.len())?, 0] {
            common.extend(field.to_le_bytes());
        }
        for part in [&b"PK\x03\x04"[..], &common, name.as_bytes(), &packed] {
            self.bytes.extend(part);
        }
        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(MADE_BY.to_le_bytes());
        self.directory.extend(common);
        self.directory.extend([0; 6]); // no comment, first disk, no attributes
        self.directory.extend(((REGULAR_FILE | mode) << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
        Ok(())
    }

    /// Returns the archive.
    ///
    /// # Errors
    /// If it is larger than 4 GiB.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        let offset = u32::try_from(self.bytes.len())?;
        let length = u32::try_from(self.directory.len())?;
        self.bytes.append(&mut self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend([self.count.to_le_bytes(), self.count.to_le_bytes()].concat());
        self.bytes.extend([length.to_le_bytes(), offset.to_le_bytes()].concat());
        self.bytes.extend([0; 2]);
        Ok(self.bytes)
    }
}
