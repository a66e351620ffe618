// An echo in Node's own terms: a socket piped into itself.
//
//   node echo.js tcp|unix|udp PORT|PATH
'use strict'

const [kind, place] = process.argv.slice(2)
const BACKLOG = 4096

if (kind === 'udp') {
  const socket = require('node:dgram').createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  socket.on('message', (data, peer) => socket.send(data, peer.port, peer.address))
  socket.bind(Number(place), '127.0.0.1')
} else {
  const server = require('node:net').createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  if (kind === 'unix') server.listen({ path: place, backlog: BACKLOG })
  else server.listen({ host: '127.0.0.1', port: Number(place), backlog: BACKLOG })
}
