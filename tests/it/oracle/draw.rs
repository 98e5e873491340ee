//! Random choices from a list of numbers, so that a failing case shrinks as a list does. 0 is always the simplest choice.

pub struct Draw<'a> {
    numbers: &'a [u16],
    at: usize,
}

impl<'a> Draw<'a> {
    pub fn new(numbers: &'a [u16]) -> Self {
        Draw { numbers, at: 0 }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) * n >> 16
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1 && n > 1
    }

    pub fn of<'b, T>(&mut self, list: &'b [T]) -> &'b T {
        &list[self.below(list.len())]
    }
}
