//! Places for sockets: dense, reused, and named so that an old name never finds a new tenant.

/// Names a socket in one worker: its place, and how often that place had been used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn new(index: u32, generation: u32) -> Token {
        Token(u64::from(generation) << 32 | u64::from(index))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as u32 as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Values under [`Token`]s.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// How often the place was used before.
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Token {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            return Token::new(index, place.generation);
        }
        self.places.push(Place { generation: 0, value: Some(value) });
        Token::new(self.places.len() as u32 - 1, 0)
    }

    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let place = self.places.get(token.index())?;
        if place.generation == token.generation() { place.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.places.get_mut(token.index())?;
        if place.generation == token.generation() { place.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.places.get_mut(token.index())?;
        if place.generation != token.generation() {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(token.index() as u32);
        Some(value)
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        let taken = self.places.iter().enumerate().filter(|(_, place)| place.value.is_some());
        taken.map(|(index, place)| Token::new(index as u32, place.generation)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
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
}
