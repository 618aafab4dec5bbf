//! Names that the engine knows, each with a number: that of its first entry in
//! HPACK's static table (RFC 7541 appendix A), or one beyond it.

/// A name's number; zero is a name that the engine does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameId(pub(crate) u8);

/// How many entries HPACK's static table has.
pub(crate) const STATIC_ENTRIES: u8 = 61;

impl NameId {
    pub(crate) const OTHER: Self = Self(0);
    pub(crate) const AUTHORITY: Self = Self(1);
    pub(crate) const METHOD: Self = Self(2);
    pub(crate) const PATH: Self = Self(4);
    pub(crate) const SCHEME: Self = Self(6);
    pub(crate) const STATUS: Self = Self(8);
    pub(crate) const CONTENT_LENGTH: Self = Self(28);
    pub(crate) const COOKIE: Self = Self(32);
    pub(crate) const EXPECT: Self = Self(35);
    pub(crate) const HOST: Self = Self(38);
    pub(crate) const TRANSFER_ENCODING: Self = Self(57);
    pub(crate) const CONNECTION: Self = Self(62);
    pub(crate) const KEEP_ALIVE: Self = Self(63);
    pub(crate) const PROXY_CONNECTION: Self = Self(64);
    pub(crate) const UPGRADE: Self = Self(65);
    pub(crate) const TE: Self = Self(66);
    pub(crate) const HTTP2_SETTINGS: Self = Self(67);
    pub(crate) const PROTOCOL: Self = Self(68);

    /// The number of `name`, which is in lower case.
    pub(crate) fn of(name: &[u8]) -> Self {
        Self(number(name))
    }

    /// The entry of HPACK's static table that has this name, if one does.
    pub(crate) const fn static_index(self) -> Option<u8> {
        if self.0 == 0 || self.0 > STATIC_ENTRIES {
            None
        } else {
            Some(self.0)
        }
    }

    /// Whether the field concerns one connection only (RFC 9110 §7.6.1,
    /// RFC 9113 §8.2.2). `te` is judged by its value.
    pub(crate) const fn is_connection_specific(self) -> bool {
        matches!(
            self,
            Self::CONNECTION
                | Self::KEEP_ALIVE
                | Self::PROXY_CONNECTION
                | Self::TRANSFER_ENCODING
                | Self::UPGRADE
                | Self::HTTP2_SETTINGS
        )
    }

    /// Whether it is one of HTTP/2's pseudo-headers.
    pub(crate) const fn is_pseudo(self) -> bool {
        matches!(
            self,
            Self::AUTHORITY
                | Self::METHOD
                | Self::PATH
                | Self::SCHEME
                | Self::STATUS
                | Self::PROTOCOL
        )
    }

    /// Whether the engine reads the field's value itself.
    pub(crate) const fn is_interpreted(self) -> bool {
        matches!(self, Self::CONTENT_LENGTH | Self::EXPECT)
    }

    /// Whether the field may not stand in trailers, since it would change how
    /// the message is framed or routed (RFC 9110 §6.5.1).
    pub(crate) const fn is_forbidden_in_trailers(self) -> bool {
        self.is_connection_specific()
            || matches!(self, Self::CONTENT_LENGTH | Self::HOST | Self::TE)
    }
}

fn number(name: &[u8]) -> u8 {
    match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 4,
        b":scheme" => 6,
        b":status" => 8,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        b"connection" => 62,
        b"keep-alive" => 63,
        b"proxy-connection" => 64,
        b"upgrade" => 65,
        b"te" => 66,
        b"http2-settings" => 67,
        b":protocol" => 68,
        _ => 0,
    }
}
