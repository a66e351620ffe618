//! compio: one task a connection; the buffer goes into the call and comes back.

use std::io;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, UdpSocket, UnixListener};
use compio::runtime::{Runtime, spawn};
use resay_peers_servers::{DATAGRAM_BYTES_MAX, Place, datagram_socket, report};

const BUFFER_BYTES: usize = 8 * 1024;

fn main() -> io::Result<()> {
    let place = Place::from_arguments();
    Runtime::new()?.block_on(async move {
        match place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    serve(stream);
                }
            }
            Place::Unix(path) => {
                let listener = UnixListener::bind(path).await?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    serve(stream);
                }
            }
            Place::Udp(address) => {
                let socket = UdpSocket::from_std(datagram_socket(address)?)?;
                let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
                loop {
                    let BufResult(received, filled) = socket.recv_from(buffer).await;
                    let (_, peer) = received?;
                    let BufResult(sent, emptied) = socket.send_to(filled, peer).await;
                    sent?;
                    buffer = emptied;
                    buffer.clear();
                }
            }
        }
    })
}

fn serve(stream: impl AsyncRead + AsyncWrite + 'static) {
    spawn(async move {
        if let Err(error) = echo(stream).await {
            report(&error);
        }
    })
    .detach();
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let BufResult(received, filled) = stream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        let BufResult(sent, emptied) = stream.write_all(filled).await;
        sent?;
        buffer = emptied;
        buffer.clear();
    }
}
