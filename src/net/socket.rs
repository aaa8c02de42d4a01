//! The UDP socket under QUIC, told what one system call can carry.
//!
//! Linux refuses a batch of datagrams (GSO) past 64 KiB, and the refusal looks to QUIC like a path that
//! swallows large packets. The largest packet allowed is therefore the 64 KiB divided by the batch that
//! QUIC sends, and a receive buffer holds one whole batch, no more.

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

/// Bytes of the largest UDP payload sent or taken. Ten of them, the most that QUIC hands over at once,
/// stay below the 65,507 bytes that one system call may carry. Loopback and jumbo frames carry such
/// packets; on other paths discovery settles for less.
pub(super) const MAX_PAYLOAD: u16 = 6_500;

/// Datagrams of one receive: the kernel joins at most 64 KiB, and eleven of [`MAX_PAYLOAD`] hold that.
const RECEIVE_SEGMENTS: usize = 11;

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

/// Quinn's own socket, with receive batches of the size that [`MAX_PAYLOAD`] asks for.
struct BoundedSocket(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for BoundedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncUdpSocket for BoundedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
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
