//! The first ten minutes in Zig: three kinds of sockets, a transform that is a function of the program, another chain while a
//! connection is open, the end.
//!
//!   zig translate-c -lc -IPREFIX/include PREFIX/include/resay.h > resay.zig
//!   zig build-exe --dep resay -Mroot=tour.zig -Mresay=resay.zig -LPREFIX/lib -lresay -lc && ./tour

const std = @import("std");
const resay = @import("resay");

const patience_ms = 5000;

fn check(code: c_int) !void {
    if (code >= 0) return;
    _ = std.c.printf("%s\n", resay.resay_last_error());
    return error.Resay;
}

/// Called on threads of the engine. Adds a "!" to each message.
fn shout(
    _: ?*anyopaque,
    _: [*c]?*anyopaque,
    message: [*c]const resay.resay_message,
    out: ?*resay.resay_out,
) callconv(.c) c_int {
    if (resay.resay_out_write(out, message.*.data, message.*.len) < 0) return resay.RESAY_DROP;
    return if (resay.resay_out_write(out, "!", 1) < 0) resay.RESAY_DROP else resay.RESAY_REPLACE;
}

const Engine = struct {
    c: ?*resay.resay_engine,

    fn init() !Engine {
        var engine: Engine = .{ .c = null };
        try check(resay.resay_engine_new(resay.RESAY_ABI, &engine.c, null));
        return engine;
    }

    fn deinit(engine: Engine) void {
        resay.resay_engine_free(engine.c);
    }

    fn listen(engine: Engine, url: [*:0]const u8) !resay.resay_id {
        var listener: resay.resay_id = 0;
        try check(resay.resay_listen(engine.c, url, &listener, null));
        return listener;
    }

    fn dial(engine: Engine, listener: resay.resay_id) !Client {
        var url: [128]u8 = undefined;
        var client: Client = .{ .c = null };
        try check(resay.resay_listener_url(engine.c, listener, &url, url.len, null));
        try check(resay.resay_client_open(&url, patience_ms, &client.c, null));
        return client;
    }
};

const Client = struct {
    c: ?*resay.resay_client,

    fn deinit(client: Client) void {
        resay.resay_client_free(client.c);
    }

    /// On a stream a message is a line, as the listener says.
    fn ask(client: Client, name: [*:0]const u8, message: []const u8) !void {
        var answer: [64]u8 = undefined;
        var got: usize = 0;
        try check(resay.resay_client_send(client.c, message.ptr, message.len, patience_ms));
        try check(resay.resay_client_recv(client.c, &answer, answer.len, &got, patience_ms));
        const question = std.mem.trimEnd(u8, message, "\n");
        const text = std.mem.trimEnd(u8, answer[0..got], "\n");
        _ = std.c.printf(
            "%s: %.*s -> %.*s\n",
            name,
            @as(c_int, @intCast(question.len)),
            question.ptr,
            @as(c_int, @intCast(text.len)),
            text.ptr,
        );
    }
};

pub fn main() !void {
    const engine = try Engine.init();
    defer engine.deinit();
    var function = std.mem.zeroes(resay.resay_function);
    function.struct_size = @sizeOf(resay.resay_function);
    function.call = shout;
    try check(resay.resay_register_function(engine.c, "shout", &function, null));
    try check(resay.resay_chain(engine.c, 0, "shout", null));
    const tcp = try engine.listen("tcp://127.0.0.1:0?frame=lines"); // port 0: a free one
    const udp = try engine.listen("udp://127.0.0.1:0");
    const local = try engine.listen("unix:tour-zig.sock?frame=lines&mode=600");
    try check(resay.resay_start(engine.c, 2, null));

    const client = try engine.dial(tcp);
    defer client.deinit();
    try client.ask("tcp", "hello\n");
    const datagrams = try engine.dial(udp);
    defer datagrams.deinit();
    try datagrams.ask("udp", "hello");
    const other = try engine.dial(local);
    defer other.deinit();
    try other.ask("unix", "hello\n");

    try check(resay.resay_chain(engine.c, 0, "shout | uppercase", null)); // of all connections, the open one too
    try client.ask("tcp", "hello\n");

    // Every answer is sent; the file of the unix socket is gone.
    try check(resay.resay_drain(engine.c, patience_ms));
}
