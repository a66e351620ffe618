//! Places for sockets: reused, with tokens that carry a version, so that an old token never finds a new socket.
//!
//! Places come in chunks of a fixed size, so that growing moves nothing and wastes at most one chunk.

/// Names a socket in one worker: its place, and the version of the place, which is how often it was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn new(index: u32, version: u32) -> Token {
        Token(u64::from(version) << 32 | u64::from(index))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as u32 as usize
    }

    pub(crate) fn version(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Values under [`Token`]s.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Place<T>>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    value: Option<T>,
    /// How often the place was used before.
    version: u32,
}

const CHUNK: usize = 64;

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn insert(&mut self, value: T) -> Token {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index as usize)
        {
            place.value = Some(value);
            return Token::new(index, place.version);
        }
        let mut chunk = match self.chunks.pop() {
            Some(last) if last.len() < CHUNK => last,
            full => {
                self.chunks.extend(full);
                Vec::with_capacity(CHUNK)
            }
        };
        let index = self.chunks.len() * CHUNK + chunk.len();
        chunk.push(Place { value: Some(value), version: 0 });
        self.chunks.push(chunk);
        Token::new(index as u32, 0)
    }

    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let place = self.chunks.get(token.index() / CHUNK)?.get(token.index() % CHUNK)?;
        if place.version == token.version() { place.value.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.place_mut(token.index())?;
        if place.version == token.version() { place.value.as_mut() } else { None }
    }

    #[inline]
    fn place_mut(&mut self, index: usize) -> Option<&mut Place<T>> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.place_mut(token.index())?;
        if place.version != token.version() {
            return None;
        }
        let value = place.value.take()?;
        place.version = place.version.wrapping_add(1);
        self.free.push(token.index() as u32);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        let places = self.chunks.iter().flatten().enumerate();
        let taken = places.filter(|(_, place)| place.value.is_some());
        taken.map(|(index, place)| Token::new(index as u32, place.version)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_finds_nobody() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(second.index(), first.index());
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&'b')));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.tokens(), [second]);
        assert!(!slab.is_empty());
    }

    #[test]
    fn places_of_many_chunks_are_all_found_and_all_reused() {
        let mut slab = Slab::new();
        let tokens: Vec<Token> = (0..3 * CHUNK + 1).map(|n| slab.insert(n)).collect();
        for (n, token) in tokens.iter().enumerate() {
            assert_eq!((token.index(), slab.get(*token)), (n, Some(&n)));
        }
        assert_eq!(slab.tokens(), tokens);
        for token in &tokens {
            assert!(slab.remove(*token).is_some());
        }
        assert!(slab.is_empty() && slab.tokens().is_empty());
        let mut again: Vec<usize> = (0..3 * CHUNK + 1).map(|n| slab.insert(n).index()).collect();
        again.sort_unstable();
        assert_eq!(again, (0..3 * CHUNK + 1).collect::<Vec<_>>());
    }
}
