-- An echo as a service in HAProxy's Lua. The language has no "what there is": receive() waits for so many bytes, so the service
-- is told how long messages are.
local message_bytes = tonumber(os.getenv("ECHO_MESSAGE_BYTES"))

core.register_service("echo", "tcp", function(applet)
  while true do
    local data = applet:receive(message_bytes)
    if data == nil or #data == 0 then
      break
    end
    applet:send(data)
  end
end)
