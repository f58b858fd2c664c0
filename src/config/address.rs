//! The broker's URL: `mqtt://HOST[:PORT]` and `mqtts://HOST[:PORT]`.
//!
//! Not here: TLS files and logins, which are keys of their own, so that no password stands in a URL
//! that is logged.

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Host name, IPv4 address, or IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// The parts of a URL; the error says what is wrong and what would do, and never shows a password.
pub(crate) fn parse(url: &str) -> Result<Address, String> {
    if url.contains('@') {
        return Err("a login does not belong in the URL; use the keys username and password".into());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("{} has no scheme; write mqtt://HOST:1883 or mqtts://HOST:8883", quote(url)));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "mqtt" => false,
        "mqtts" => true,
        "tcp" => return Err(format!("the scheme {scheme:?} is written mqtt:// here")),
        "ssl" | "tls" => return Err(format!("the scheme {scheme:?} is written mqtts:// here")),
        "ws" | "wss" => {
            return Err(
                "MQTT over WebSocket is not supported; use the broker's mqtt:// or mqtts:// port".into()
            );
        }
        _ => return Err(format!("the scheme {} is unknown; use mqtt:// or mqtts://", quote(scheme))),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // What stands there, or in place of a port, may be a password.
    if let Some((host, _)) = rest.split_once(['/', '?', '#']) {
        return Err(format!(
            "behind {} stands a path; an MQTT broker has only a host and a port",
            quote(host)
        ));
    }
    let (host, port) = if let Some(after) = rest.strip_prefix('[') {
        let Some((host, after)) = after.split_once(']') else {
            return Err(format!("{} opens `[` and does not close it; write mqtt://[::1]:1883", quote(url)));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("{} is no IPv6 address; write mqtt://[::1]:1883", quote(host)));
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(format!("{} stands behind `]`; only `:PORT` may", quote(after))),
        }
    } else if rest.matches(':').count() > 1 {
        return Err(format!("{} is an IPv6 address without brackets; write mqtt://[::1]:1883", quote(rest)));
    } else {
        match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    if host.is_empty() {
        return Err(format!("{} names no host; write mqtt://HOST:1883", quote(url)));
    }
    if let Some(bad) =
        host.chars().find(|c| c.is_whitespace() || c.is_control() || "[]{}\"\\<>|^`,;".contains(*c))
    {
        return Err(format!("the host {} holds {bad:?}; write a host name or an address", quote(host)));
    }
    let port = match port {
        None => {
            if tls {
                8883
            } else {
                1883
            }
        }
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
            _ if digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(format!("the port is {}; it must be a number from 1 to 65535", quote(digits)));
            }
            _ => return Err("the port is no number; it must be one from 1 to 65535".into()),
        },
    };
    Ok(Address { host: host.to_owned(), port, tls })
}

fn quote(text: &str) -> String {
    format!("{:?}", super::document::shorten(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_come_out_with_their_defaults() {
        for (url, host, port, tls) in [
            ("mqtt://localhost", "localhost", 1883, false),
            ("mqtts://broker.example/", "broker.example", 8883, true),
            ("MQTT://10.0.0.1:7", "10.0.0.1", 7, false),
            ("mqtt://[::1]:1884", "::1", 1884, false),
            ("mqtts://[fe80::1]", "fe80::1", 8883, true),
        ] {
            assert_eq!(parse(url), Ok(Address { host: host.into(), port, tls }), "{url}");
        }
    }

    #[test]
    fn each_slip_is_answered_with_what_would_do() {
        for (url, why) in [
            ("localhost:1883", "no scheme"),
            ("tcp://a", "written mqtt://"),
            ("ssl://a", "written mqtts://"),
            ("ws://a", "WebSocket"),
            ("http://a", "unknown"),
            ("mqtt://me:geheim@a", "username"),
            ("me:geheim@a:1883", "username"),
            ("mqtt:/me:geheim@a", "username"),
            ("mqtt://a:geheim", "from 1 to 65535"),
            ("mqtt://a/?password=geheim", "path"),
            ("mqtt://a/b", "path"),
            ("mqtt://", "no host"),
            ("mqtt://:1883", "no host"),
            ("mqtt://a:0", "from 1 to 65535"),
            ("mqtt://a:65536", "from 1 to 65535"),
            ("mqtt://a:", "from 1 to 65535"),
            ("mqtt://a:+7", "from 1 to 65535"),
            ("mqtt://::1", "without brackets"),
            ("mqtt://[::1", "does not close"),
            ("mqtt://[::1]x", "behind"),
            ("mqtt://[nope]", "no IPv6"),
            ("mqtt://a b", "holds"),
            ("", "no scheme"),
        ] {
            let message = parse(url).unwrap_err();
            assert!(message.contains(why), "{url}: {message}");
            assert!(!message.contains("geheim"), "{message}");
        }
    }
}
