//! Frames that carry no message (RFC 9113 §6.3-§6.9).

use std::time::Instant;

use super::{
    CONTROL_HELD, Connection, LEAVING_PING, Leaving,
    frame::{
        self, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, Header, INITIAL_WINDOW_SIZE, Kind,
        MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_WINDOW, u31,
    },
    receive::Outcome,
};
use crate::{
    event::Role,
    fault::{Code, Fault, Flood, ResetReason},
};

impl Connection {
    pub(super) fn control_frame<'a>(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        match header.kind {
            Kind::Settings => self.settings(header, payload, now)?,
            Kind::Ping => self.pinged(header, payload, now)?,
            Kind::GoAway => self.peer_leaves(header, payload, now)?,
            Kind::Priority => self.priority(header, payload, now)?,
            Kind::PushPromise => return Err(Fault::Push),
            Kind::WindowUpdate => return self.window_update(header, payload, now),
            Kind::RstStream => {
                let code = u32::from_be_bytes(exactly(payload)?);
                return self.stream_was_reset(header.stream, Code::from_wire(code), now);
            }
            Kind::Unknown | Kind::Data | Kind::Headers | Kind::Continuation => {
                self.spend(Flood::Idle, now)?;
            }
        }
        Ok(Outcome::Nothing)
    }

    fn settings(&mut self, header: Header, payload: &[u8], now: Instant) -> Result<(), Fault> {
        self.spend(Flood::Control, now)?;
        if header.stream != 0 {
            return Err(Fault::FrameStream);
        }
        if header.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(Fault::FrameSize);
            }
            self.settings_acknowledged = true;
            return Ok(());
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(Fault::FrameSize);
        };
        let mut window = None;
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                // A server may say that it does not push, and no more.
                ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                    return Err(Fault::Setting);
                }
                MAX_CONCURRENT_STREAMS => self.peer.streams = value,
                INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => return Err(Fault::Window),
                INITIAL_WINDOW_SIZE => window = Some(value),
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fault::Setting);
                }
                ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Fault::Setting),
                ENABLE_CONNECT_PROTOCOL => self.peer.connect_protocol = Some(value == 1),
                // The others do not concern what we send.
                _ => {}
            }
        }
        if let Some(window) = window {
            self.resize_send_windows(window)?;
        }
        self.peer.connect_protocol.get_or_insert(false);
        frame::settings_ack(&mut self.control);
        self.check_control()
    }

    /// RFC 9113 §6.9.2. Once for a frame, however often it says so.
    fn resize_send_windows(&mut self, window: u32) -> Result<(), Fault> {
        let change = i64::from(window) - i64::from(self.peer.initial_window);
        self.peer.initial_window = window;
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > MAX_WINDOW {
                return Err(Fault::Window);
            }
            if stream.has_turn() && !stream.in_turn {
                stream.in_turn = true;
                self.turns.push_back(stream.id);
            }
        }
        Ok(())
    }

    fn pinged(&mut self, header: Header, payload: &[u8], now: Instant) -> Result<(), Fault> {
        self.spend(Flood::Control, now)?;
        let payload = u64::from_be_bytes(exactly(payload)?);
        if header.stream != 0 {
            return Err(Fault::FrameStream);
        }
        if !header.has(frame::ACK) {
            frame::ping(payload, frame::ACK, &mut self.control);
            return self.check_control();
        }
        if payload == LEAVING_PING && matches!(self.leaving, Leaving::Announced(_)) {
            self.leave();
            self.finish_if_last(now);
        } else {
            self.pong = Some(payload);
        }
        Ok(())
    }

    /// A peer that makes us answer and does not read.
    const fn check_control(&self) -> Result<(), Fault> {
        if self.control.len() > CONTROL_HELD {
            return Err(Fault::Flood(Flood::Control));
        }
        Ok(())
    }

    fn peer_leaves(&mut self, header: Header, payload: &[u8], now: Instant) -> Result<(), Fault> {
        self.spend(Flood::Control, now)?;
        if header.stream != 0 {
            return Err(Fault::FrameStream);
        }
        let (frame, _debug_data) = payload.split_first_chunk::<8>().ok_or(Fault::FrameSize)?;
        let [a, b, c, d, e, f, g, h] = *frame;
        let (last, code) = (
            u31([a, b, c, d]),
            Code::from_wire(u32::from_be_bytes([e, f, g, h])),
        );
        self.peer_leaving = Some(code);
        self.went_away = Some(code);
        if self.role == Role::Client {
            let unseen: Vec<u32> = self
                .streams
                .iter()
                .map(|stream| stream.id)
                .filter(|id| *id > last)
                .collect();
            for id in unseen {
                self.forget(id);
                self.resets.push_back((id, ResetReason::Refused));
                self.remove(id, now);
            }
            self.finish_if_last(now);
        }
        Ok(())
    }

    fn priority(&mut self, header: Header, payload: &[u8], now: Instant) -> Result<(), Fault> {
        self.spend(Flood::Idle, now)?;
        let [a, b, c, d, _] = exactly::<5>(payload)?;
        if header.stream == 0 || u31([a, b, c, d]) == header.stream {
            return Err(Fault::FrameStream);
        }
        Ok(())
    }

    fn window_update<'a>(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        self.spend(Flood::Idle, now)?;
        let increment = i64::from(u31(exactly(payload)?));
        let id = header.stream;
        if id == 0 {
            self.send_window += increment;
            return match (increment, self.send_window) {
                (0, _) => Err(Fault::Increment),
                (_, window) if window > MAX_WINDOW => Err(Fault::Window),
                _ => Ok(Outcome::Nothing),
            };
        }
        if self.is_idle(id) {
            return Err(Fault::FrameStream);
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(Outcome::Nothing);
        };
        stream.send_window += increment;
        stream.progress = now;
        if increment == 0 {
            return self.refuse_stream(id, ResetReason::Malformed, now);
        }
        if stream.send_window > MAX_WINDOW {
            return self.refuse_stream(id, ResetReason::FlowControl, now);
        }
        if stream.has_turn() && !stream.in_turn {
            stream.in_turn = true;
            self.turns.push_back(id);
        }
        Ok(Outcome::Nothing)
    }
}

fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N], Fault> {
    payload.try_into().map_err(|_| Fault::FrameSize)
}
