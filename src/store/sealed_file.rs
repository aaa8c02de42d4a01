//! A file whose every byte is sealed: the storage under the client's redb database.
//!
//! redb sees a plain file of 4 KiB pages; the disk sees sectors of XChaCha20-Poly1305 under one key, so
//! that no name, size or data key rests in clear. It is *not* protection against one who may write the
//! disk: a sector put back as it was on another day still opens.
//!
//! ```text
//! 0       prologue, in clear: magic, format, file id, key check, checksum
//! 4 Ki    sector 0 (redb's header), copy 0: an 8 KiB slot, so that no two copies share a disk block
//! 12 Ki   sector 0, copy 1
//! 20 Ki   sector 1, sector 2, ... of SEALED_LEN bytes each, one after the other
//!
//! sector: nonce 24 ‖ ciphertext ‖ tag 16; the associated data is its number
//! sector 0 holds before redb's header: its generation, and how many sectors the file has
//! ```
//!
//! The sectors are not aligned to disk blocks: a layout with the nonces and tags apart would need two
//! writes a sector, and one torn block of tags would lose a hundred sectors that nobody wrote to. As it
//! is, a write puts back the neighbours' bytes of its first and last block as they were, and disks write
//! their blocks whole.
//!
//! # Crashes and damage
//! * redb never overwrites a page that its last durable commit needs, so a torn sector is one that
//!   nobody was promised. Its header is the exception, and the one page that it rewrites in place:
//!   sector 0 has two copies, and a write goes to the one that is not known to be synced. After the sync
//!   the other is written too, so that at rest bit rot in one copy costs nothing.
//! * A sector that does not open is [`SectorDamaged`], an error of that read. redb must commit in two
//!   phases (`set_quick_repair`): then what its header names is synced before the header names it, and
//!   a sector that it reads and that does not open is never the mark of a crash. One-phase commits
//!   would need such sectors to pass for blank after a crash, and bit rot would then roll back a commit.
//! * The length that redb sees is the one sealed in sector 0, and a file that is shorter is damaged:
//!   redb would take the length of the disk's file for the truth after a crash, and a file cut to nothing
//!   for a new one. So the file grows before that number is synced, and shrinks after.
//! * A blank sector does not open either, although a [`StorageBackend`] should read as zeros where it
//!   was lengthened: redb reads no page that it has not written.
//! * Writes wait in memory until the next sync, or until there are [`MAX_WAITING`]: a transaction of
//!   scattered pages then becomes a few long writes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use redb::StorageBackend;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::hash::{Context, derive_key};
use crate::store::disk::DiskFile;

/// Plaintext bytes of a sector: redb's page.
pub const SECTOR_LEN: usize = 4_096;

/// Bytes of a sector on disk.
pub const SEALED_LEN: usize = NONCE_LEN + SECTOR_LEN + TAG_LEN;

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// Changes when the layout does.
const FORMAT: u32 = 2;
const MAGIC: [u8; 16] = *b"xvault sealed\x1a\n\0";
const FILE_ID_LEN: usize = 16;
const CHECK_LEN: usize = 32;
/// Magic, format, file id, key check; a BLAKE3 of them follows.
const PROLOGUE_BODY_LEN: usize = MAGIC.len() + 4 + FILE_ID_LEN + CHECK_LEN;
const PROLOGUE_LEN: usize = PROLOGUE_BODY_LEN + 32;

/// Plaintext of sector 0 as it is sealed: its generation, the number of sectors, then its bytes.
const HEAD_LEN: usize = 16 + SECTOR_LEN;
const HEAD_SEALED_LEN: usize = NONCE_LEN + HEAD_LEN + TAG_LEN;
const HEAD_SLOTS: [u64; 2] = [4_096, 12_288];
const SECTORS_START: u64 = 20_480;

/// Sectors that wait for a sync at most: 4 MiB, the length at which larger writes gain nothing.
const MAX_WAITING: usize = 1_024;

/// Nonces drawn at once: one call of the system's generator for 64 sectors.
const NONCES_AT_ONCE: usize = 64;

type Sealed = Box<[u8; SEALED_LEN]>;

/// Fills a buffer with unpredictable bytes; the simulator passes a seeded one.
pub type Entropy = Box<dyn FnMut(&mut [u8]) -> io::Result<()> + Send + Sync>;

/// The operating system's generator.
#[must_use]
pub fn system_entropy() -> Entropy {
    Box::new(|out| getrandom::fill(out).map_err(io::Error::from))
}

/// Why a file cannot be unsealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It does not begin as one.
    #[error("not a sealed file")]
    NotSealed,
    /// A later program wrote it.
    #[error("sealed file of format {found}; this program reads format {FORMAT}")]
    UnknownFormat {
        /// The file's format.
        found: u32,
    },
    /// It is whole, but sealed under another key.
    #[error("the file was sealed under another key")]
    WrongKey,
    /// It is not as it was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// The disk says no.
    #[error("the disk failed")]
    Io(#[from] io::Error),
}

/// A sector does not open: its bytes are not those that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sector {sector} is damaged")]
pub struct SectorDamaged {
    /// Number of the sector: redb's page at `sector * SECTOR_LEN`.
    pub sector: u64,
}

/// A sealed file, as redb uses it.
pub struct SealedFile {
    file: Arc<dyn DiskFile>,
    cipher: XChaCha20Poly1305,
    state: RwLock<State>,
}

struct State {
    nonces: Nonces,
    head: Head,
    /// Sealed and not yet written, by number; never sector 0.
    waiting: BTreeMap<u64, Sealed>,
}

/// Sector 0, and what is sealed with it.
struct Head {
    plain: Zeroizing<[u8; SECTOR_LEN]>,
    /// Sectors of the file, this one among them; 0 before redb has begun it. The file on disk is never
    /// shorter; it is longer until the sync that follows a cut.
    sectors: u64,
    /// Versions of it so far; 0 before it was first written.
    generation: u64,
    /// Slot of the next write: the other holds a synced copy.
    slot: usize,
    /// Whether `plain` or `sectors` is newer than both copies.
    changed: bool,
}

struct Nonces {
    entropy: Entropy,
    pool: Vec<u8>,
}

impl Nonces {
    fn draw(&mut self) -> io::Result<XNonce> {
        if self.pool.is_empty() {
            let mut pool = vec![0; NONCES_AT_ONCE * NONCE_LEN];
            (self.entropy)(&mut pool)?;
            self.pool = pool;
        }
        let mut nonce = XNonce::default();
        nonce.copy_from_slice(&self.pool.split_off(self.pool.len() - NONCE_LEN));
        Ok(nonce)
    }
}

impl SealedFile {
    /// Seals an empty file under a key: writes the prologue and syncs it.
    ///
    /// # Errors
    /// As the disk or the entropy source reports.
    pub fn create(file: Arc<dyn DiskFile>, key: &[u8; 32], mut entropy: Entropy) -> io::Result<Self> {
        let mut id = [0; FILE_ID_LEN];
        entropy(&mut id)?;
        let (cipher, check) = schedule(key, &id);
        file.set_len(SECTORS_START)?;
        file.write_at(0, &prologue(&id, &check))?;
        file.sync_data()?;
        let plain = Zeroizing::new([0; SECTOR_LEN]);
        let head = Head { plain, sectors: 0, generation: 0, slot: 0, changed: false };
        Ok(Self::new(file, cipher, entropy, head))
    }

    /// Opens a sealed file.
    ///
    /// # Errors
    /// [`UnsealError`] tells a wrong key from damage, from what is no sealed file at all, and from the
    /// disk's own errors.
    pub fn open(file: Arc<dyn DiskFile>, key: &[u8; 32], entropy: Entropy) -> Result<Self, UnsealError> {
        let len = file.len()?;
        let mut found = [0; PROLOGUE_LEN];
        if len < PROLOGUE_LEN as u64 {
            return Err(UnsealError::Damaged("it was cut short"));
        }
        file.read_at(0, &mut found)?;
        let (id, check) = read_prologue(&found)?;
        let (cipher, expected) = schedule(key, &id);
        if !bool::from(check.ct_eq(&expected)) {
            return Err(UnsealError::WrongKey);
        }
        if len < SECTORS_START {
            return Err(UnsealError::Damaged("it was cut short"));
        }
        let head = newest_head(&*file, &cipher, len)?;
        // The copy that was read may be one that only the page cache has; the next write goes over
        // the other.
        file.sync_data()?;
        Ok(Self::new(file, cipher, entropy, head))
    }

    fn new(file: Arc<dyn DiskFile>, cipher: XChaCha20Poly1305, entropy: Entropy, head: Head) -> Self {
        let nonces = Nonces { entropy, pool: Vec::new() };
        let state = RwLock::new(State { nonces, head, waiting: BTreeMap::new() });
        Self { file, cipher, state }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        // No code under the lock leaves the state half changed when it panics.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads whole sectors, none of them sector 0, that lie one after the other.
    fn read_sectors(&self, state: &State, first: u64, out: &mut [u8]) -> io::Result<()> {
        let mut scratch = vec![0; out.len() / SECTOR_LEN * SEALED_LEN];
        match self.file.read_at(position(first), &mut scratch) {
            // Somebody cut the file while it is open.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(io::Error::new(ErrorKind::InvalidData, SectorDamaged { sector: first }));
            }
            read => read?,
        }
        let sectors = scratch.chunks_exact(SEALED_LEN).zip(out.chunks_exact_mut(SECTOR_LEN));
        for (sector, (on_disk, plain)) in (first..).zip(sectors) {
            let sealed = state.waiting.get(&sector).map_or(on_disk, |waiting| waiting.as_slice());
            if !open_sector(&self.cipher, sector, sealed, plain) {
                return Err(io::Error::new(ErrorKind::InvalidData, SectorDamaged { sector }));
            }
        }
        Ok(())
    }

    /// Reads one sector, whichever it is.
    fn read_sector(&self, state: &State, sector: u64) -> io::Result<Zeroizing<[u8; SECTOR_LEN]>> {
        if sector == 0 {
            return Ok(state.head.plain.clone());
        }
        let mut plain = Zeroizing::new([0; SECTOR_LEN]);
        self.read_sectors(state, sector, &mut *plain)?;
        Ok(plain)
    }

    /// Puts a sector's new bytes where the next sync finds them.
    fn stage(&self, state: &mut State, sector: u64, plain: &[u8]) -> io::Result<()> {
        if sector == 0 {
            state.head.plain.copy_from_slice(plain);
            state.head.changed = true;
            return Ok(());
        }
        let mut sealed = Box::new([0; SEALED_LEN]);
        seal(&self.cipher, &state.nonces.draw()?, sector, plain, &mut *sealed)?;
        state.waiting.insert(sector, sealed);
        Ok(())
    }

    /// Writes what waits, neighbours together. What was written before an error waits on.
    fn flush(&self, state: &mut State) -> io::Result<()> {
        let mut run: Vec<&[u8]> = Vec::new();
        let mut start = 0;
        for (&sector, sealed) in &state.waiting {
            if sector != start + run.len() as u64 {
                self.file.write_parts_at(position(start), &run)?;
                run.clear();
            }
            if run.is_empty() {
                start = sector;
            }
            run.push(sealed.as_slice());
        }
        self.file.write_parts_at(position(start), &run)?;
        state.waiting.clear();
        Ok(())
    }

    /// Writes sector 0 over the copy that is not known to be synced; the bytes, if it changed.
    fn flush_head(&self, state: &mut State) -> io::Result<Option<Vec<u8>>> {
        if !state.head.changed {
            return Ok(None);
        }
        let generation = state.head.generation + 1;
        let mut plain = Zeroizing::new(Vec::with_capacity(HEAD_LEN));
        plain.extend_from_slice(&generation.to_le_bytes());
        plain.extend_from_slice(&state.head.sectors.to_le_bytes());
        plain.extend_from_slice(&*state.head.plain);
        let mut sealed = vec![0; HEAD_SEALED_LEN];
        seal(&self.cipher, &state.nonces.draw()?, 0, &plain, &mut sealed)?;
        self.file.write_at(HEAD_SLOTS[state.head.slot], &sealed)?;
        state.head.generation = generation;
        Ok(Some(sealed))
    }
}

impl StorageBackend for SealedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.read_state().head.sectors * SECTOR_LEN as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.read_state();
        let whole = offset > 0 && offset.is_multiple_of(SECTOR_LEN as u64);
        if whole && out.len().is_multiple_of(SECTOR_LEN) {
            return self.read_sectors(&state, offset / SECTOR_LEN as u64, out);
        }
        for piece in pieces(offset, out.len()) {
            let plain = self.read_sector(&state, piece.sector)?;
            out[piece.outer].copy_from_slice(&plain[piece.inner]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(SECTOR_LEN as u64) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a length in whole sectors"));
        }
        let sectors = len / SECTOR_LEN as u64;
        let mut state = self.write_state();
        drop(state.waiting.split_off(&sectors));
        if self.file.len()? < end(sectors) {
            self.file.set_len(end(sectors))?;
        }
        state.head.changed |= state.head.sectors != sectors;
        state.head.sectors = sectors;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.write_state();
        self.flush(&mut state)?;
        let head = self.flush_head(&mut state)?;
        self.file.sync_data()?;
        // From here on the copy just written is the one to keep.
        if let Some(sealed) = head {
            state.head.changed = false;
            state.head.slot ^= 1;
            self.file.write_at(HEAD_SLOTS[state.head.slot], &sealed)?;
            // If we crash before this the file stays too long until the next sync of its header.
            if self.file.len()? > end(state.head.sectors) {
                self.file.set_len(end(state.head.sectors))?;
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.write_state();
        for piece in pieces(offset, data.len()) {
            let part = &data[piece.outer];
            if part.len() == SECTOR_LEN {
                self.stage(&mut state, piece.sector, part)?;
            } else {
                let mut plain = self.read_sector(&state, piece.sector)?;
                plain[piece.inner].copy_from_slice(part);
                self.stage(&mut state, piece.sector, &*plain)?;
            }
        }
        if state.waiting.len() >= MAX_WAITING { self.flush(&mut state) } else { Ok(()) }
    }
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The part of a request that lies in one sector.
struct Piece {
    sector: u64,
    /// In the sector.
    inner: std::ops::Range<usize>,
    /// In the caller's buffer.
    outer: std::ops::Range<usize>,
}

/// Cuts a request at the edges of sectors.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = usize::try_from(at % SECTOR_LEN as u64).unwrap_or(0);
        let take = (len - done).min(SECTOR_LEN - start);
        let outer = done..done + take;
        done += take;
        (take > 0).then_some(Piece { sector: at / SECTOR_LEN as u64, inner: start..start + take, outer })
    })
}

/// Where a sector other than sector 0 begins on disk.
const fn position(sector: u64) -> u64 {
    SECTORS_START + sector.saturating_sub(1) * SEALED_LEN as u64
}

/// Where a file of so many sectors ends on disk.
const fn end(sectors: u64) -> u64 {
    SECTORS_START + sectors.saturating_sub(1).saturating_mul(SEALED_LEN as u64)
}

/// The cipher of a file, and the value that tells the key without telling anything of it.
fn schedule(key: &[u8; 32], id: &[u8; FILE_ID_LEN]) -> (XChaCha20Poly1305, [u8; CHECK_LEN]) {
    let mut derived = Zeroizing::new([0; 32 + CHECK_LEN]);
    derive_key(Context::SealedFile, &[key, id], &mut *derived);
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&derived[32..]);
    let mut sector_key = Zeroizing::new([0; 32]);
    sector_key.copy_from_slice(&derived[..32]);
    (XChaCha20Poly1305::new((&*sector_key).into()), check)
}

fn prologue(id: &[u8; FILE_ID_LEN], check: &[u8; CHECK_LEN]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PROLOGUE_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(check);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

fn read_prologue(found: &[u8; PROLOGUE_LEN]) -> Result<([u8; FILE_ID_LEN], [u8; CHECK_LEN]), UnsealError> {
    let (body, checksum) = found.split_at(PROLOGUE_BODY_LEN);
    let rest = body.strip_prefix(&MAGIC).ok_or(UnsealError::NotSealed)?;
    let damaged = || UnsealError::Damaged("its first bytes are not those that were written");
    if blake3::hash(body).as_bytes() != checksum {
        return Err(damaged());
    }
    let (format, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let found = u32::from_le_bytes(*format);
    if found != FORMAT {
        return Err(UnsealError::UnknownFormat { found });
    }
    let (id, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let check = rest.first_chunk().ok_or_else(damaged)?;
    Ok((*id, *check))
}

/// The newer of the copies of sector 0 that open and whose sectors are all there: a crash may leave one
/// whose file had yet to grow, never two.
fn newest_head(file: &dyn DiskFile, cipher: &XChaCha20Poly1305, len: u64) -> Result<Head, UnsealError> {
    let mut newest: Option<Head> = None;
    let mut reason = "no copy of its first sector opens";
    for (at, offset) in HEAD_SLOTS.into_iter().enumerate() {
        let mut sealed = vec![0; HEAD_SEALED_LEN];
        file.read_at(offset, &mut sealed)?;
        let mut plain = Zeroizing::new([0; HEAD_LEN]);
        if !open_sector(cipher, 0, &sealed, &mut *plain) {
            continue;
        }
        let Some((generation, rest)) = plain.split_first_chunk() else { continue };
        let Some((sectors, bytes)) = rest.split_first_chunk() else { continue };
        let (generation, sectors) = (u64::from_le_bytes(*generation), u64::from_le_bytes(*sectors));
        if len < end(sectors) {
            reason = "it was cut short";
            continue;
        }
        if newest.as_ref().is_none_or(|other| other.generation < generation) {
            let mut plain = Zeroizing::new([0; SECTOR_LEN]);
            plain.copy_from_slice(bytes);
            newest = Some(Head { plain, sectors, generation, slot: at ^ 1, changed: false });
        }
    }
    newest.ok_or(UnsealError::Damaged(reason))
}

/// Seals `plain` into `out`, which is longer by the nonce and the tag.
fn seal(
    cipher: &XChaCha20Poly1305,
    nonce: &XNonce,
    sector: u64,
    plain: &[u8],
    out: &mut [u8],
) -> io::Result<()> {
    let (head, rest) = out.split_at_mut(NONCE_LEN);
    let (body, tail) = rest.split_at_mut(plain.len());
    head.copy_from_slice(nonce);
    let too_long = |_| io::Error::new(ErrorKind::InvalidInput, "a sector of another length");
    let buffer = InOutBuf::new(plain, body).map_err(|_| too_long(()))?;
    let tag =
        cipher.encrypt_inout_detached(nonce, &sector.to_le_bytes(), buffer).map_err(|_| too_long(()))?;
    tail.copy_from_slice(&tag);
    Ok(())
}

/// Opens a sector into `plain`; whether it was the one that was sealed.
fn open_sector(cipher: &XChaCha20Poly1305, sector: u64, sealed: &[u8], plain: &mut [u8]) -> bool {
    let (head, rest) = sealed.split_at(NONCE_LEN);
    let (body, tail) = rest.split_at(plain.len());
    let (Ok(nonce), Ok(tag)) = (head.try_into(), tail.try_into()) else { return false };
    let Ok(buffer) = InOutBuf::new(body, plain) else { return false };
    cipher.decrypt_inout_detached(&nonce, &sector.to_le_bytes(), buffer, &tag).is_ok()
}
