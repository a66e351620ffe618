// The first ten minutes in Node.js with koffi: three kinds of sockets, a transform that is an async function of the program,
// another chain while a connection is open, the end.
//
//   npm install --prefix examples/node && node examples/node/tour.js
//
// RESAY_LIBRARY names the library; without it the system's own search decides.
//
// JavaScript runs on one thread. So the engine makes none: it serves in this thread's loop, and its callbacks come there.
'use strict'

const dgram = require('node:dgram')
const net = require('node:net')
const { once } = require('node:events')
const koffi = require('koffi')

// What resay.h has. resay.json has it for programs that would rather generate this.
const RESAY_ABI = 1
const RESAY_REPLACE = 1
const RESAY_DROP = 3
const RESAY_LATER = 6

koffi.opaque('resay_engine')
koffi.opaque('resay_out')
koffi.struct('resay_message', {
  struct_size: 'uint32_t', flags: 'uint32_t', data: 'void *', len: 'size_t',
  listener: 'uint64_t', connection: 'uint64_t', kind: 'uint32_t', zero: 'uint32_t',
})
const Call = koffi.proto('int resay_call(void *user, void *session, resay_message *message, resay_out *out)')
koffi.struct('resay_function', {
  struct_size: 'uint32_t', needs: 'uint32_t', user: 'void *',
  begin: 'void *', call: koffi.pointer(Call), end: 'void *', release: 'void *',
})

const library = koffi.load(process.env.RESAY_LIBRARY || 'libresay.so.1')
const resay = {}
for (const prototype of [
  'int resay_engine_new(uint32_t abi, _Out_ resay_engine **out, void *err)',
  'int resay_register_function(resay_engine *engine, const char *id, resay_function *function, void *err)',
  'int resay_chain(resay_engine *engine, uint64_t listener, const char *spec, void *err)',
  'int resay_listen(resay_engine *engine, const char *url, _Out_ uint64_t *out, void *err)',
  'int resay_listener_port(resay_engine *engine, uint64_t listener)',
  'int resay_poll_fd(resay_engine *engine)',
  'int resay_poll_timeout(resay_engine *engine)',
  'int resay_run(resay_engine *engine, int timeout_ms)',
  'uint64_t resay_later(resay_out *out)',
  'int resay_answer(resay_engine *engine, uint64_t token, int verdict, const void *data, size_t len)',
  'int resay_drain(resay_engine *engine, int timeout_ms)',
  'void resay_engine_free(resay_engine *engine)',
  'const char *resay_last_error()',
]) {
  const call = library.func(prototype)
  resay[call.info.name] = call
}

koffi.struct('pollfd', { fd: 'int', events: 'short', revents: 'short' })
const poll = koffi.load('libc.so.6').func('int poll(_Inout_ pollfd *fds, unsigned long count, int timeout)')
const POLLIN = 1

function check(code) {
  if (code < 0) throw new Error(resay.resay_last_error())
  return code
}

function newEngine() {
  const out = [null]
  check(resay.resay_engine_new(RESAY_ABI, out, null))
  return out[0]
}

/** Makes an async function from Buffer to Buffer a transform. Keep what this returns for as long as the engine. */
function register(engine, id, transform) {
  const call = koffi.register((_user, _session, pointer, out) => {
    const message = koffi.decode(pointer, 'resay_message')
    const data = message.len > 0 ? Buffer.from(new Uint8Array(koffi.view(message.data, Number(message.len)))) : Buffer.alloc(0)
    const token = resay.resay_later(out)
    if (!token) return RESAY_DROP
    transform(data).then(
      (answer) => resay.resay_answer(engine, token, RESAY_REPLACE, answer, answer.length),
      () => resay.resay_answer(engine, token, RESAY_DROP, null, 0),
    )
    return RESAY_LATER
  }, koffi.pointer(Call))
  const described = { struct_size: koffi.sizeof('resay_function'), needs: 0, user: null, begin: null, call, end: null, release: null }
  check(resay.resay_register_function(engine, id, described, null))
  return call
}

function listen(engine, url) {
  const id = [0n]
  check(resay.resay_listen(engine, url, id, null))
  return resay.resay_listener_port(engine, id[0])
}

/** Serves until the engine has ended. A thread of koffi's waits for what there is to do; all else is done on this one. */
async function serve(engine) {
  const fd = resay.resay_poll_fd(engine)
  while (check(resay.resay_run(engine, 0)) > 0) {
    const watched = [{ fd, events: POLLIN, revents: 0 }]
    const timeout = resay.resay_poll_timeout(engine)
    await new Promise((resolve, reject) => {
      poll.async(watched, 1, timeout, (error) => (error ? reject(error) : resolve()))
    })
  }
}

/** On a stream a message is a line, as the listener says. */
async function ask(connection, name, message) {
  const send = connection.write ? connection.write : connection.send
  send.call(connection, message)
  const [answer] = await once(connection, connection.write ? 'data' : 'message')
  console.log(`${name}: ${message.trimEnd()} -> ${answer.toString().trimEnd()}`)
}

async function main() {
  const engine = newEngine()
  const shout = register(engine, 'shout', async (message) => Buffer.concat([message, Buffer.from('!')]))
  check(resay.resay_chain(engine, 0, 'shout', null))
  const tcp = listen(engine, 'tcp://127.0.0.1:0?frame=lines') // port 0: a free one
  const udp = listen(engine, 'udp://127.0.0.1:0')
  listen(engine, 'unix:tour-node.sock?frame=lines&mode=600')
  const served = serve(engine)

  const client = net.connect(tcp, '127.0.0.1')
  await ask(client, 'tcp', 'hello\n')
  const datagrams = dgram.createSocket('udp4')
  datagrams.connect(udp, '127.0.0.1')
  await once(datagrams, 'connect')
  await ask(datagrams, 'udp', 'hello')
  datagrams.close()
  const local = net.connect('tour-node.sock')
  await ask(local, 'unix', 'hello\n')
  local.end()

  check(resay.resay_chain(engine, 0, 'shout | uppercase', null)) // of all connections, the open one too
  await ask(client, 'tcp', 'hello\n')
  client.end()

  check(resay.resay_drain(engine, 5000)) // begins it; the file of the unix socket is gone when it is done
  await served
  resay.resay_engine_free(engine)
  koffi.unregister(shout)
}

main()
