-- The first ten minutes in LuaJIT: three kinds of sockets, a transform that is a function of the program, another chain while
-- a connection is open, the end.
--
--   luajit examples/lua/tour.lua PREFIX/include/resay.cdef
--
-- LuaJIT may be called only on its own thread. So the engine makes none: it serves in this program's loop.

local ffi = require("ffi")
local path = assert(arg[1], "where is resay.cdef?")
local file = assert(io.open(path, "r"))
ffi.cdef(file:read("*a"))
file:close()
local resay = ffi.load(os.getenv("RESAY_LIBRARY") or "resay")

local function check(code)
  if code < 0 then error(ffi.string(resay.resay_last_error()), 2) end
  return code
end

local new_engine = ffi.new("resay_engine *[1]")
check(resay.resay_engine_new(resay.RESAY_ABI, new_engine, nil))
local engine = new_engine[0]

local function shout(_, _, message, out)
  -- An error must not leave a callback.
  local ok = pcall(function()
    local answer = ffi.string(message.data, message.len) .. "!"
    check(resay.resay_out_write(out, answer, #answer))
  end)
  return ok and resay.RESAY_REPLACE or resay.RESAY_DROP
end
-- As long as the engine may call it.
local callback = ffi.cast("int (*)(void *, void **, const resay_message *, resay_out *)", shout)
local fn = ffi.new("resay_function", { struct_size = ffi.sizeof("resay_function"), call = callback })
check(resay.resay_register_function(engine, "shout", fn, nil))
check(resay.resay_chain(engine, 0, "shout", nil))

local function listen(url)
  local id, text = ffi.new("resay_id[1]"), ffi.new("char[128]")
  check(resay.resay_listen(engine, url, id, nil))
  check(resay.resay_listener_url(engine, id[0], text, 128, nil))
  return ffi.string(text)
end
local tcp = listen("tcp://127.0.0.1:0?frame=lines") -- port 0: a free one
local udp = listen("udp://127.0.0.1:0")
local unix = listen("unix:tour-lua.sock?frame=lines&mode=600")

local function dial(url)
  local client = ffi.new("resay_client *[1]")
  check(resay.resay_client_open(url, 5000, client, nil))
  return ffi.gc(client[0], resay.resay_client_free)
end

-- A function that is called back from must not be compiled.
local function run(timeout_ms) return check(resay.resay_run(engine, timeout_ms)) end
jit.off(run)

-- On a stream a message is a line, as the listener says.
local function ask(client, name, message)
  local buffer, got = ffi.new("char[64]"), ffi.new("size_t[1]")
  check(resay.resay_client_send(client, message, #message, 5000))
  repeat
    run(10) -- the loop: serve for 10 ms at most
    local result = resay.resay_client_recv(client, buffer, 64, got, 0)
    if result ~= resay.RESAY_E_TIMEOUT then check(result) end
  until got[0] > 0
  print(("%s: %s -> %s"):format(name, message:gsub("\n", ""), ffi.string(buffer, got[0]):gsub("\n", "")))
end

local client = dial(tcp)
ask(client, "tcp", "hello\n")
ask(dial(udp), "udp", "hello")
ask(dial(unix), "unix", "hello\n")

check(resay.resay_chain(engine, 0, "shout | uppercase", nil)) -- of all connections, the open one too
ask(client, "tcp", "hello\n")

check(resay.resay_drain(engine, 5000)) -- begins it; the file of the unix socket is gone when it is done
while run(-1) > 0 do end
resay.resay_engine_free(engine)
callback:free()
