//! monoio: one task a connection; the buffer goes into the call and comes back.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::udp::UdpSocket;
use monoio::net::{ListenerOpts, TcpListener, UnixListener};
use monoio::{IoUringDriver, RuntimeBuilder};
use resay_peers_servers::{DATAGRAM_BYTES_MAX, Place, datagram_socket, report};

const BUFFER_BYTES: usize = 8 * 1024;

fn main() -> io::Result<()> {
    let place = Place::from_arguments();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(4096).build()?;
    runtime.block_on(async move {
        match place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    spawn(stream);
                }
            }
            Place::Unix(path) => {
                // Linux has no SO_REUSEPORT for these, which it asks for unless told not to.
                let options = ListenerOpts::new().reuse_port(false);
                let listener = UnixListener::bind_with_config(path, &options)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    spawn(stream);
                }
            }
            Place::Udp(address) => {
                let socket = UdpSocket::from_std(datagram_socket(address)?)?;
                let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
                let mut received;
                loop {
                    (received, buffer) = socket.recv_from(buffer).await;
                    let (_, peer) = received?;
                    let sent;
                    (sent, buffer) = socket.send_to(buffer, peer).await;
                    sent?;
                    buffer.clear();
                }
            }
        }
    })
}

fn spawn(stream: impl AsyncReadRent + AsyncWriteRent + 'static) {
    monoio::spawn(async move {
        if let Err(error) = echo(stream).await {
            report(&error);
        }
    });
}

async fn echo(mut stream: impl AsyncReadRent + AsyncWriteRent) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}
