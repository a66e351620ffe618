//! A transform behind its table, called as the engine calls it, without the engine.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use resay_plugin::abi;

/// malloc's, where a session names none.
const SESSION_ALIGN: usize = 16;
/// Room for output where no bound is declared.
const ROOM_BYTES: usize = 512;

static HOST: Host = Host(abi::resay_host {
    struct_size: size_of::<abi::resay_host>() as u32,
    abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
    ctx: ptr::null_mut(),
    log_level: ptr::null(),
    log: None,
    counter: None,
    counter_add: None,
    extension: None,
});

struct Host(abi::resay_host);

// SAFETY: all its pointers are null.
unsafe impl Sync for Host {}

/// An instance and one session of it.
pub(crate) struct Instance {
    table: &'static abi::resay_transform,
    instance: *mut c_void,
    session: *mut c_void,
    layout: Layout,
}

impl Instance {
    /// Creates both.
    ///
    /// # Safety
    /// The table keeps the promises of the ABI, is of its current revision, and stays for ever.
    pub(crate) unsafe fn new(table: *const abi::resay_transform, options: &[(&str, &str)]) -> Instance {
        // SAFETY: by the contract above; every argument lives during the calls.
        unsafe {
            let table = &*table;
            assert!(table.struct_size as usize >= size_of::<abi::resay_transform>(), "an older table");
            let keys: Vec<CString> =
                options.iter().map(|(key, _)| CString::new(*key).expect("a key without NUL")).collect();
            let options: Vec<abi::resay_kv> = keys
                .iter()
                .zip(options)
                .map(|(key, (_, value))| abi::resay_kv {
                    key: key.as_ptr(),
                    value: abi::resay_bytes { ptr: value.as_ptr(), len: value.len() },
                })
                .collect();
            let mut instance = ptr::null_mut();
            if let Some(create) = table.create {
                let status =
                    create(table, &HOST.0, options.as_ptr(), options.len(), &mut instance, ptr::null_mut());
                assert_eq!(status, abi::RESAY_OK, "create");
            }
            let align = if table.session_align == 0 { SESSION_ALIGN } else { table.session_align as usize };
            let layout = Layout::from_size_align((table.session_size as usize).max(1), align)
                .expect("a session that fits");
            let session: *mut c_void = alloc_zeroed(layout).cast();
            assert!(!session.is_null(), "memory for a session");
            if let Some(open) = table.session_open {
                let peer = abi::resay_peer {
                    struct_size: size_of::<abi::resay_peer>() as u32,
                    kind: abi::RESAY_STREAM,
                    id: 1,
                    local: c"tcp://127.0.0.1:8888".as_ptr(),
                    peer: c"tcp://127.0.0.1:50000".as_ptr(),
                    listener: c"tcp://127.0.0.1:8888".as_ptr(),
                    via: std::ptr::null(),
                    facts: std::ptr::null(),
                };
                assert_eq!(open(instance, session, &peer, ptr::null_mut()), abi::RESAY_OK, "session_open");
            }
            Instance { table, instance, session, layout }
        }
    }

    /// One whole message. What works in place answers in `message`; anything else in `out`, which has room for all
    /// answers that fit there.
    pub(crate) fn answer(&mut self, message: &mut [u8], out: &mut Vec<MaybeUninit<u8>>) -> abi::resay_status {
        if let Some(map) = self.table.map {
            // SAFETY: a living instance and session, and bytes that are ours.
            return unsafe { map(self.instance, self.session, message.as_mut_ptr(), message.len()) };
        }
        let Some(process) = self.table.process else { unreachable!("a table has map or process") };
        let (mut flags, mut used, mut made, mut need) =
            (abi::RESAY_IO_BEGIN | abi::RESAY_IO_END, 0, 0, self.bound(message.len()));
        loop {
            if out.len() < made + need {
                out.resize(made + need, MaybeUninit::new(0));
            }
            let rest = &message[used..];
            let mut io = abi::resay_io {
                struct_size: size_of::<abi::resay_io>() as u32,
                flags,
                input: rest.as_ptr(),
                input_len: rest.len(),
                input_used: 0,
                output: out[made..].as_mut_ptr().cast(),
                output_cap: out.len() - made,
                output_len: 0,
                output_need: 0,
                delay_us: 0,
                copies: 0,
                zero: 0,
            };
            // SAFETY: as above; the room is apart from the input, and was initialised when it was made.
            let status = unsafe { process(self.instance, self.session, &mut io) };
            if status != abi::RESAY_MORE_OUT {
                return status;
            }
            used += io.input_used;
            made += io.output_len;
            need = io.output_need.max(self.bound(message.len() - used));
            flags &= !abi::RESAY_IO_BEGIN;
        }
    }

    fn bound(&self, len: usize) -> usize {
        let table = self.table;
        if table.out_div == 0 {
            return len.max(ROOM_BYTES);
        }
        (len * table.out_mul as usize).div_ceil(table.out_div as usize) + table.out_add as usize
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: made in new(), each ended once.
        unsafe {
            if let Some(close) = self.table.session_close {
                close(self.instance, self.session);
            }
            dealloc(self.session.cast(), self.layout);
            if let Some(destroy) = self.table.destroy {
                destroy(self.instance);
            }
        }
    }
}

/// The table of a plugin's library that has this id, if the file is there. The library stays.
///
/// # Safety
/// The file is a plugin that keeps the promises of the ABI.
pub(crate) unsafe fn dlopened(path: &std::path::Path, id: &str) -> Option<*const abi::resay_transform> {
    if !path.is_file() {
        return None;
    }
    // SAFETY: by the contract above: the entry is pure, and its tables stay while the library does, which is never
    // unloaded.
    unsafe {
        let library = libloading::Library::new(path).expect("a library that loads");
        let entry =
            *library.get::<abi::resay_plugin_entry>(c"resay_plugin_v1").expect("the entry of a plugin");
        std::mem::forget(library);
        let library = &*entry(abi::RESAY_PLUGIN_ABI_MINOR);
        let tables = std::slice::from_raw_parts(library.transforms, library.n as usize);
        tables
            .iter()
            .copied()
            .find(|table| std::ffi::CStr::from_ptr((**table).id).to_bytes() == id.as_bytes())
    }
}
