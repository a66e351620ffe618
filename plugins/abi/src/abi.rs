//! The boundary itself, in C's own names. `include/resay_plugin.h` is generated from this file.
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_int, c_void};

pub const RESAY_PLUGIN_ABI_MINOR: u32 = 0;

pub const RESAY_OK: i32 = 0;
pub const RESAY_MORE_OUT: i32 = 1;
pub const RESAY_MORE_IN: i32 = 2;
pub const RESAY_DROP: i32 = 3;
pub const RESAY_CLOSE: i32 = 4;
pub const RESAY_RESET: i32 = 5;
pub const RESAY_E_DATA: i32 = -1;
pub const RESAY_E_CONFIG: i32 = -2;
pub const RESAY_E_NOMEM: i32 = -3;
pub const RESAY_E_UNSUPPORTED: i32 = -4;
pub const RESAY_E_PANIC: i32 = -5;

pub const RESAY_CAP_BYTEWISE: u32 = 1;
pub const RESAY_CAP_OBSERVER: u32 = 2;
pub const RESAY_CAP_ALIAS: u32 = 4;
pub const RESAY_CAP_GREETS: u32 = 8;

pub const RESAY_NEED_MESSAGES: u32 = 1;
pub const RESAY_NEED_OFFLOAD: u32 = 2;

pub const RESAY_SHARED: u32 = 0;
pub const RESAY_PER_WORKER: u32 = 1;
pub const RESAY_SERIAL: u32 = 2;

pub const RESAY_IO_BEGIN: u32 = 1;
pub const RESAY_IO_END: u32 = 2;
pub const RESAY_IO_EOF: u32 = 4;
pub const RESAY_IO_DATAGRAM: u32 = 8;

pub const RESAY_STREAM: u32 = 1;
pub const RESAY_DATAGRAM: u32 = 2;
pub const RESAY_SEQPACKET: u32 = 3;

pub const RESAY_LIB_UNLOADABLE: u32 = 1;

pub type resay_status = i32;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_bytes {
    pub ptr: *const u8,
    pub len: usize,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_kv {
    pub key: *const c_char,
    pub value: resay_bytes,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_option {
    pub key: *const c_char,
    pub r#type: *const c_char,
    pub fallback: *const c_char,
    pub help: *const c_char,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_text {
    pub buf: *mut c_char,
    pub cap: usize,
}

#[repr(C)]
#[derive(Debug)]
pub struct resay_io {
    pub struct_size: u32,
    pub flags: u32,
    pub r#in: *const u8,
    pub in_len: usize,
    pub in_used: usize,
    pub out: *mut u8,
    pub out_cap: usize,
    pub out_len: usize,
    pub out_need: usize,
    pub delay_us: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_peer {
    pub struct_size: u32,
    pub kind: u32,
    pub id: u64,
    pub local: *const c_char,
    pub peer: *const c_char,
    pub listener: *const c_char,
}

#[repr(C)]
#[derive(Debug)]
pub struct resay_host {
    pub struct_size: u32,
    pub abi_minor: u32,
    pub ctx: *mut c_void,
    pub log_level: *const u8,
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: c_int, utf8: *const c_char, len: usize)>,
    pub counter: Option<unsafe extern "C" fn(ctx: *mut c_void, name: *const c_char) -> u32>,
    pub counter_add: Option<unsafe extern "C" fn(ctx: *mut c_void, id: u32, n: u64)>,
    pub extension: Option<unsafe extern "C" fn(ctx: *mut c_void, id: *const c_char) -> *const c_void>,
}

#[repr(C)]
#[derive(Debug)]
pub struct resay_transform {
    pub struct_size: u32,
    pub caps: u32,
    pub needs: u32,
    pub threading: u32,
    pub id: *const c_char,
    pub version: *const c_char,
    pub summary: *const c_char,
    pub user: *mut c_void,
    pub options: *const resay_option,
    pub n_options: u32,
    pub session_size: u32,
    pub session_align: u32,
    pub out_mul: u32,
    pub out_div: u32,
    pub out_add: u32,
    pub create: Option<
        unsafe extern "C" fn(
            transform: *const resay_transform,
            host: *const resay_host,
            options: *const resay_kv,
            n_options: usize,
            self_: *mut *mut c_void,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    pub destroy: Option<unsafe extern "C" fn(self_: *mut c_void)>,
    pub session_open: Option<
        unsafe extern "C" fn(
            self_: *mut c_void,
            session: *mut c_void,
            peer: *const resay_peer,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    pub session_close: Option<unsafe extern "C" fn(self_: *mut c_void, session: *mut c_void)>,
    pub map: Option<
        unsafe extern "C" fn(
            self_: *mut c_void,
            session: *mut c_void,
            data: *mut u8,
            len: usize,
        ) -> resay_status,
    >,
    pub process: Option<
        unsafe extern "C" fn(self_: *mut c_void, session: *mut c_void, io: *mut resay_io) -> resay_status,
    >,
    pub extension: Option<
        unsafe extern "C" fn(transform: *const resay_transform, id: *const c_char) -> *const c_void,
    >,
}

#[repr(C)]
#[derive(Debug)]
pub struct resay_session_state {
    pub struct_size: u32,
    pub schema: *const c_char,
    pub save: Option<
        unsafe extern "C" fn(self_: *mut c_void, session: *const c_void, io: *mut resay_io) -> resay_status,
    >,
    pub load: Option<
        unsafe extern "C" fn(
            self_: *mut c_void,
            session: *mut c_void,
            schema: *const c_char,
            state: resay_bytes,
            err: *mut resay_text,
        ) -> resay_status,
    >,
}

#[repr(C)]
#[derive(Debug)]
pub struct resay_library {
    pub struct_size: u32,
    pub abi_minor: u32,
    pub flags: u32,
    pub n: u32,
    pub transforms: *const *const resay_transform,
    pub shutdown: Option<unsafe extern "C" fn()>,
}

pub type resay_plugin_entry = unsafe extern "C" fn(host_abi_minor: u32) -> *const resay_library;
