//! Small numbers for what is named again and again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A hasher for ids and short names of trusted files.
#[derive(Default)]
pub struct Fold(u64);

/// Builds [`Fold`].
pub type Fast = BuildHasherDefault<Fold>;

impl Fold {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xff51_afd7_ed55_8ccd_u64);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        self.add(xxhash_rust::xxh3::xxh3_64(bytes));
    }
    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }
    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
    fn write_u128(&mut self, value: u128) {
        self.add((value >> 64) as u64);
        self.add(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Things numbered in the order in which they were first seen.
pub struct Numbers<T> {
    of: HashMap<T, u32, Fast>,
    all: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            of: HashMap::default(),
            all: Vec::new(),
        }
    }
}

impl<T: Eq + Hash + Clone> Numbers<T> {
    /// Its number; the next one if it is new.
    pub fn number(&mut self, what: &T) -> u32 {
        if let Some(number) = self.of.get(what) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.of.insert(what.clone(), number);
        self.all.push(what.clone());
        number
    }

    /// Its number, if it has one.
    pub fn find<Q: Eq + Hash + ?Sized>(&self, what: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        self.of.get(what).copied()
    }

    /// What has this number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.all.get(number as usize)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
