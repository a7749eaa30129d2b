//! What a device's pool keeps of freed memory: pieces, each of which serves again whoever asks for no more than it has. Nothing is moved
//! together, as in the worst case of a real one.

/// The freed pieces, and how many bytes of them stay when somebody has waited for a stream.
#[derive(Debug, Default)]
pub struct Pool {
    pieces: Vec<u64>,
    keeps: u64,
}

impl Pool {
    pub fn keep(&mut self, bytes: u64) {
        self.keeps = bytes;
    }

    /// Bytes of the device that it holds, besides those in use.
    pub fn unused(&self) -> u64 {
        self.pieces.iter().sum()
    }

    /// Cuts so many bytes off the least piece that has them. False where there is none.
    pub fn take(&mut self, bytes: u64) -> bool {
        let Some(piece) = self.pieces.iter_mut().filter(|piece| **piece >= bytes).min() else { return false };
        *piece -= bytes;
        true
    }

    pub fn give_back(&mut self, bytes: u64) {
        self.pieces.push(bytes);
    }

    /// Gives to the device what is beyond so many bytes.
    pub fn trim(&mut self, bytes: u64) {
        while self.unused() > bytes {
            self.pieces.pop();
        }
    }

    /// As when somebody has waited for a stream.
    pub fn trim_by_itself(&mut self) {
        self.trim(self.keeps);
    }
}
