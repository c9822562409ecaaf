//! Numbered storage with reuse of numbers, grown in chunks so that it never copies what it holds.

const CHUNK: usize = 1024;

/// Values under small numbers. A freed number is used again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.free.pop() {
            self.chunks[at as usize / CHUNK][at as usize % CHUNK] = Some(value);
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let chunk = &mut self.chunks[chunks - 1];
        chunk.push(Some(value));
        ((chunks - 1) * CHUNK + chunk.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let value = self
            .chunks
            .get_mut(at as usize / CHUNK)?
            .get_mut(at as usize % CHUNK)?
            .take()?;
        self.free.push(at);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.chunks
            .get_mut(at as usize / CHUNK)?
            .get_mut(at as usize % CHUNK)?
            .as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }

    /// From a number on.
    pub(crate) fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &T)> {
        let chunk = from as usize / CHUNK;
        let chunks = self.chunks.iter().enumerate().skip(chunk);
        chunks
            .flat_map(|(chunk, values)| {
                values
                    .iter()
                    .enumerate()
                    .filter_map(move |(i, value)| Some(((chunk * CHUNK + i) as u32, value.as_ref()?)))
            })
            .skip_while(move |(number, _)| *number < from)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.iter_from(0)
    }
}

/// By a number that is known to be in use: numbers live only inside structures that are freed together with the value.
impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        match &self.chunks[at as usize / CHUNK][at as usize % CHUNK] {
            Some(value) => value,
            None => unreachable!("slab number {at} is free"),
        }
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        match &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK] {
            Some(value) => value,
            None => unreachable!("slab number {at} is free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_found() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..3000).map(|i| slab.insert(i)).collect();
        assert_eq!(slab.len(), 3000);
        assert_eq!(slab.remove(numbers[1500]), Some(1500));
        assert_eq!(slab.remove(numbers[1500]), None);
        assert_eq!(slab.get(numbers[1500]), None);
        assert_eq!(slab.insert(7), numbers[1500]);
        assert_eq!(slab[numbers[1500]], 7);
        assert_eq!(slab.iter().count(), 3000);
        assert!(slab.get(1_000_000).is_none());
    }
}
