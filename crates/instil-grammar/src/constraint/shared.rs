//! What many threads read while some of them add to it: lists, cells and maps of which nothing that has been found is
//! ever changed. Who comes first writes; who comes second finds what the first has written.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::{FxHashMap, FxHasher};

/// Cells in the first chunk, as a power of two.
const FIRST_BITS: u32 = 5;
/// Chunks, each twice as long as the one before it: together they hold as many cells as there are indexes.
const CHUNKS: usize = 33 - FIRST_BITS as usize;

/// A cell for every index, each of which is written once. Reading takes no lock.
#[derive(Debug)]
pub(crate) struct Cells<T> {
    chunks: [OnceLock<Box<[OnceLock<T>]>>; CHUNKS],
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }
}

impl<T> Cells<T> {
    /// Chunk and place in it.
    #[inline]
    fn place(at: u32) -> (usize, usize) {
        let from_one = u64::from(at) + (1 << FIRST_BITS);
        let chunk = from_one.ilog2() - FIRST_BITS;
        (chunk as usize, (from_one - (1 << (chunk + FIRST_BITS))) as usize)
    }

    /// What has been written.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let (chunk, place) = Self::place(at);
        self.chunks[chunk].get()?[place].get()
    }

    /// The cell, whether it has been written or not.
    fn cell(&self, at: u32) -> &OnceLock<T> {
        let (chunk, place) = Self::place(at);
        let new = || (0..1usize << (chunk as u32 + FIRST_BITS)).map(|_| OnceLock::new()).collect();
        &self.chunks[chunk].get_or_init(new)[place]
    }

    /// What has been written, or what is found out now; who else asks meanwhile may find it out too.
    pub(crate) fn get_or(&self, at: u32, find: impl FnOnce() -> T) -> &T {
        match self.get(at) {
            Some(known) => known,
            None => {
                let found = find();
                self.cell(at).get_or_init(|| found)
            }
        }
    }
}

/// A list that is only added to. Reading takes no lock, and an index is good for ever.
#[derive(Debug)]
pub(crate) struct List<T> {
    cells: Cells<T>,
    len: AtomicUsize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { cells: Cells::default(), len: AtomicUsize::new(0) }
    }
}

impl<T> List<T> {
    /// Adds an entry; its index.
    pub(crate) fn push(&self, value: T) -> u32 {
        let at = u32::try_from(self.len.fetch_add(1, Ordering::Relaxed)).expect("memory ends before 2^32 entries");
        let _ = self.cells.cell(at).set(value);
        at
    }

    /// An entry.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> &T {
        self.cells.get(at).expect("an index is given out once its entry is written")
    }

    /// All entries that are written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len() as u32).filter_map(|at| self.cells.get(at))
    }

    /// Number of entries, those that are being written included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

/// Parts of a map that are locked each for itself.
const SHARDS: usize = 16;

/// A map whose values are handles, cheap to clone. Locks are held for a look-up, never while something is found out,
/// unless that is what the caller asks for.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    shards: [RwLock<FxHashMap<K, V>>; SHARDS],
    len: AtomicUsize,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), len: AtomicUsize::new(0) }
    }
}

impl<K: Eq + Hash, V: Clone> Map<K, V> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &RwLock<FxHashMap<K, V>> {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        // The maps themselves go by the high and by the low bits.
        &self.shards[(hasher.finish() >> 32) as usize % SHARDS]
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        read(self.shard(key)).get(key).cloned()
    }

    /// The value of a key, which is this one where it had none.
    pub(crate) fn insert(&self, key: K, value: V) -> V {
        self.get_or(key, || value)
    }

    /// The value of a key, made while all other askers wait where it had none: keep it short.
    pub(crate) fn get_or(&self, key: K, make: impl FnOnce() -> V) -> V {
        let mut shard = write(self.shard(&key));
        shard
            .entry(key)
            .or_insert_with(|| {
                self.len.fetch_add(1, Ordering::Relaxed);
                make()
            })
            .clone()
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let forgotten = std::mem::take(&mut *write(shard));
            self.len.fetch_sub(forgotten.len(), Ordering::Relaxed);
        }
    }
}

/// Nothing that a lock guards here is left half done by a panic.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// See [`read`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_were_put() {
        let list: List<usize> = List::default();
        for at in 0..5000 {
            assert_eq!(list.push(at * 3), at as u32);
        }
        assert!((0..5000).all(|at| *list.get(at as u32) == at * 3));
        let cells: Cells<u32> = Cells::default();
        assert_eq!(*cells.get_or(1 << 20, || 7), 7);
        assert_eq!(*cells.get_or(1 << 20, || 8), 7);
        assert_eq!(cells.get((1 << 20) - 1), None);
        assert_eq!(cells.get(u32::MAX), None);
    }

    #[test]
    fn of_two_writers_the_first_is_believed() {
        let (map, list): (Map<u32, u32>, List<u32>) = (Map::default(), List::default());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (map, list) = (&map, &list);
                scope.spawn(move || {
                    for key in 0..1000 {
                        let at = map.get_or(key, || list.push(key));
                        assert_eq!(*list.get(at), key);
                        assert_eq!(map.insert(key, u32::MAX - writer), at);
                    }
                });
            }
        });
        assert_eq!((map.len(), list.len()), (1000, 1000));
        map.clear();
        assert_eq!((map.len(), map.get(&1)), (0, None));
    }
}
