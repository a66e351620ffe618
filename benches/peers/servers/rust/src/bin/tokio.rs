//! tokio: one task a connection, a buffer in the task, read and write_all.

use std::io;

use resay_peers_servers::{DATAGRAM_BYTES_MAX, Place, datagram_socket, report};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

fn main() -> io::Result<()> {
    let place = Place::from_arguments();
    let buffer_bytes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4096);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        match place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    spawn(stream, buffer_bytes);
                }
            }
            Place::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    spawn(stream, buffer_bytes);
                }
            }
            Place::Udp(address) => {
                let socket = UdpSocket::from_std(datagram_socket(address)?)?;
                let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
                loop {
                    let (len, peer) = socket.recv_from(&mut buffer).await?;
                    socket.send_to(&buffer[..len], peer).await?;
                }
            }
        }
    })
}

fn spawn(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, buffer_bytes: usize) {
    tokio::spawn(async move {
        if let Err(error) = echo(stream, buffer_bytes).await {
            report(&error);
        }
    });
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, buffer_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}
