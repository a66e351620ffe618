// An echo in njs. A stream can be answered only while it is proxied, so each has a connection to an upstream, which takes
// nothing and says nothing: nginx itself, at a unix socket.
function echo(s) {
  s.on('upload', function (data, flags) {
    if (data.length) s.sendDownstream(data)
    if (flags.last) s.send('', flags)
  })
}

function hold(s) {
  s.on('upload', function (data, flags) {
    if (flags.last) s.done()
  })
}

export default { echo, hold }
