//! The Huffman code of strings (RFC 7541 §5.2), as it is read. Codes of one
//! length are consecutive and in the order of their symbols, so that the
//! lengths say everything.

/// The string is not a whole number of symbols with at most seven bits of ones
/// behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCode;

/// Appends what `input` says to `out`.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    let mut input = input.iter();
    // The bits that are not yet decoded, from the top down.
    let (mut window, mut count) = (0_u64, 0_u32);
    loop {
        while count <= 56 {
            let Some(byte) = input.next() else {
                break;
            };
            window |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let (symbol, len) = lookup((window >> 32) as u32);
        if len > count {
            return padding(window, count);
        }
        // The end-of-string symbol may not be in a string.
        out.push(u8::try_from(symbol).map_err(|_| BadCode)?);
        window <<= len;
        count -= len;
    }
}

fn padding(window: u64, count: u32) -> Result<(), BadCode> {
    let ones = window.leading_ones() >= count;
    if count < 8 && ones {
        Ok(())
    } else {
        Err(BadCode)
    }
}

/// The symbol with which these bits begin, and its length.
fn lookup(bits: u32) -> (u16, u32) {
    let (symbol, len) = TABLES.short[(bits >> 24) as usize];
    if len > 0 {
        return (u16::from(symbol), u32::from(len));
    }
    let mut len = 9;
    while len < LONGEST && bits >= TABLES.end[len] {
        len += 1;
    }
    let above = (bits - TABLES.first[len]) >> (32 - len);
    let index = TABLES.offset[len] as usize + above as usize;
    // In range: the last length's codes reach to the top.
    let symbol = TABLES.symbols.get(index).copied().unwrap_or(END);
    (symbol, len as u32)
}

const LONGEST: usize = 30;
/// The symbol that ends a string.
const END: u16 = 256;

struct Tables {
    /// Symbol and length by the first eight bits, for codes no longer.
    short: [(u8, u8); 256],
    /// For each length: its first code and the one behind its last, from the
    /// top bit down, and where its symbols begin.
    first: [u32; LONGEST + 1],
    end: [u32; LONGEST + 1],
    offset: [u16; LONGEST + 1],
    /// All symbols, in the order of their codes.
    symbols: [u16; 257],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 256],
        first: [0; LONGEST + 1],
        end: [u32::MAX; LONGEST + 1],
        offset: [0; LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut code, mut placed, mut len) = (0_u64, 0_usize, 1_usize);
    while len <= LONGEST {
        code <<= 1;
        tables.first[len] = (code << (32 - len)) as u32;
        tables.offset[len] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                tables.symbols[placed] = symbol as u16;
                if len <= 8 {
                    fill(&mut tables.short, symbol as u8, code as usize, len);
                }
                code += 1;
                placed += 1;
            }
            symbol += 1;
        }
        let end = code << (32 - len);
        if end <= u32::MAX as u64 {
            tables.end[len] = end as u32;
        }
        len += 1;
    }
    tables
}

const fn fill(short: &mut [(u8, u8); 256], symbol: u8, code: usize, len: usize) {
    let mut index = code << (8 - len);
    let end = (code + 1) << (8 - len);
    while index < end {
        short[index] = (symbol, len as u8);
        index += 1;
    }
}

/// Bits of each symbol's code (RFC 7541 appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(hex: &str) -> Result<String, BadCode> {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let mut out = Vec::new();
        decode(&bytes, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn rfc_7541_appendix_c() {
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "9d29ad171863c78f0b97c8e9ae82ae43d3",
                "https://www.example.com",
            ),
            ("", ""),
        ] {
            assert_eq!(decoded(hex).as_deref(), Ok(text));
        }
    }

    #[test]
    fn padding_is_ones_and_short() {
        // 'a' is 00011.
        assert_eq!(decoded("1f").as_deref(), Ok("a"));
        assert_eq!(decoded("18"), Err(BadCode), "zeros");
        assert_eq!(decoded("1fff"), Err(BadCode), "eleven bits");
        assert_eq!(decoded("ff"), Err(BadCode), "a byte of its own");
        assert_eq!(decoded("fffffffc"), Err(BadCode), "the end of the string");
        assert_eq!(decoded("ffffffff"), Err(BadCode));
    }

    #[test]
    fn every_symbol_is_read_back() {
        let (mut code, mut len) = (0_u64, 0);
        for (index, symbol) in TABLES.symbols.iter().enumerate() {
            let own = LENGTHS[usize::from(*symbol)];
            code = if index == 0 {
                0
            } else {
                (code + 1) << (own - len)
            };
            len = own;
            let top = (code << (32 - u32::from(len))) as u32;
            assert_eq!(lookup(top), (*symbol, u32::from(len)), "{symbol}");
        }
    }
}
