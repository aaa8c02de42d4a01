//! The UDP socket under QUIC, told what one system call can carry.
//!
//! Linux refuses a batch of datagrams (GSO) past 64 KiB, and the refusal looks to QUIC like a path that
//! swallows large packets. So batches are cut here to what fits, and packets may be as large as the path
//! carries: one of 64 KiB on loopback, seven on jumbo frames, ten, the most that QUIC sends at once, elsewhere.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of the largest UDP payload sent or taken: the most that IPv4 carries. Path MTU discovery settles
/// for less where the path does.
pub(super) const MAX_PAYLOAD: u16 = 65_507;

/// Receive buffers, each of [`MAX_PAYLOAD`]: as the kernel joins at most 64 KiB, one holds a whole batch.
const RECEIVE_SEGMENTS: usize = 1;

/// Bytes of the kernel's buffer in each direction: what arrives while this process does not run, some
/// milliseconds at a gigabyte per second. The system may allow less (`net.core.rmem_max`).
const BUFFER_LEN: usize = 4 << 20;

/// Opens a socket for QUIC on this address.
pub(super) fn bind(address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Where the system allows less it clamps or refuses; QUIC then works, only slower.
    let sized =
        socket.set_recv_buffer_size(BUFFER_LEN).and_then(|()| socket.set_send_buffer_size(BUFFER_LEN));
    if let Err(error) = sized {
        tracing::debug!(%error, "socket buffers keep their size");
    }
    socket.bind(&address.into())?;
    let inner = TokioRuntime.wrap_udp_socket(UdpSocket::from(socket))?;
    Ok(Arc::new(BoundedSocket(inner)))
}

/// Tells when a socket is closed, without keeping it open: QUIC does so in the background.
#[derive(Debug)]
pub(super) struct Watch(Weak<dyn AsyncUdpSocket>);

impl Watch {
    pub(super) fn new(socket: &Arc<dyn AsyncUdpSocket>) -> Self {
        Self(Arc::downgrade(socket))
    }

    /// Waits until the socket is closed and its address free, at most this long.
    pub(super) async fn closed(&self, at_most: Duration) {
        let closed = async {
            while self.0.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(at_most, closed).await.is_err() {
            tracing::debug!("a socket outlives its endpoint");
        }
    }
}

/// Quinn's own socket, with batches that one system call can carry in either direction.
struct BoundedSocket(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for BoundedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A batch as pieces that one system call can carry, each of whole datagrams.
fn parts<'a>(transmit: &'a Transmit<'_>) -> impl Iterator<Item = Transmit<'a>> {
    let whole = transmit.contents.len().max(1);
    let piece = transmit.segment_size.map_or(whole, |size| (usize::from(MAX_PAYLOAD) / size).max(1) * size);
    transmit.contents.chunks(piece).map(move |contents| Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn,
        contents,
        // One datagram alone is no batch.
        segment_size: transmit.segment_size.filter(|size| contents.len() > *size),
        src_ip: transmit.src_ip,
    })
}

impl AsyncUdpSocket for BoundedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut sent = 0;
        for part in parts(transmit) {
            match self.0.try_send(&part) {
                Ok(()) => sent += 1,
                // What is sent must not be sent again: the rest counts as lost on the way, as it would be if
                // the path were full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments().min(RECEIVE_SEGMENTS)
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_whole_datagrams_that_fit_a_call() {
        let contents: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        for (len, size, expected) in [
            (14_520, Some(1_452), vec![14_520]),
            (65_507, Some(65_507), vec![65_507]),
            (90_000, Some(9_000), vec![63_000, 27_000]),
            (100_000, Some(40_000), vec![40_000, 40_000, 20_000]),
            (1_200, None, vec![1_200]),
        ] {
            let transmit = Transmit {
                destination: ([127, 0, 0, 1], 1).into(),
                ecn: None,
                contents: &contents[..len],
                segment_size: size,
                src_ip: None,
            };
            let cut: Vec<_> = parts(&transmit).collect();
            assert_eq!(cut.iter().map(|part| part.contents.len()).collect::<Vec<_>>(), expected);
            assert_eq!(
                cut.iter().flat_map(|part| part.contents).copied().collect::<Vec<_>>(),
                contents[..len]
            );
            for part in cut {
                assert!(part.segment_size.is_none_or(|size| part.contents.len() > size));
            }
        }
    }
}
