//! What is called for a stage of a chain: a table, or a function of the host's.

use std::ffi::CStr;

use resay_plugin::abi::{self, resay_kv, resay_transform};

use super::function::{Function, HostFunction, Message, Needs};
use super::lifecycle::PluginLibrary;
use super::output::{Output, Verdict};
use super::table::{OptionHelp, SessionState, Table};

/// What is called for a stage of a chain. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) enum Callee {
    Table(Table),
    Function(HostFunction),
}

impl Callee {
    /// The name that chains know it by, as C has it.
    pub(super) fn name(&self) -> &'static CStr {
        match self {
            Callee::Table(table) => table.name(),
            Callee::Function(function) => function.name(),
        }
    }

    /// The name that chains know it by.
    pub(crate) fn id(&self) -> &'static str {
        match self {
            Callee::Table(table) => table.id(),
            Callee::Function(function) => function.id(),
        }
    }

    pub(crate) fn version(&self) -> &'static str {
        self.table().map_or("", Table::version)
    }

    pub(crate) fn summary(&self) -> &'static str {
        self.table().map_or("", Table::summary)
    }

    /// Its promises: `RESAY_CAP_` bits.
    pub(crate) fn caps(&self) -> u32 {
        self.table().map_or(0, Table::caps)
    }

    /// Its requirements: `RESAY_NEED_` bits.
    pub(crate) fn needs(&self) -> u32 {
        match self {
            Callee::Table(table) => table.needs(),
            Callee::Function(function) => {
                let bit = |is_needed, bit| if is_needed { bit } else { 0 };
                let needs = function.needs();
                bit(needs.messages, abi::RESAY_NEED_MESSAGES) | bit(needs.offload, abi::RESAY_NEED_OFFLOAD)
            }
        }
    }

    /// `RESAY_SHARED`, which functions are, `RESAY_PER_WORKER` or `RESAY_SERIAL`.
    pub(crate) fn threading(&self) -> u32 {
        self.table().map_or(abi::RESAY_SHARED, Table::threading)
    }

    pub(crate) fn options(&self) -> Vec<OptionHelp<'static>> {
        self.table().map_or(Vec::new(), Table::options)
    }

    pub(crate) fn is_per_worker(&self) -> bool {
        self.table().is_some_and(Table::is_per_worker)
    }

    /// Whether it may block, and so runs off the workers.
    pub(crate) fn is_offloaded(&self) -> bool {
        match self {
            Callee::Table(table) => table.is_offloaded(),
            Callee::Function(function) => function.needs().offload,
        }
    }

    /// Whether it only takes whole messages.
    pub(crate) fn needs_messages(&self) -> bool {
        match self {
            Callee::Table(table) => table.needs_messages(),
            Callee::Function(function) => function.needs().messages,
        }
    }

    /// What the transform wants to be for these options: `resay.select/1`.
    pub(super) fn select(self, options: &[resay_kv]) -> std::result::Result<Callee, String> {
        match self {
            Callee::Table(table) => table.select(options).map(Callee::Table),
            function @ Callee::Function(_) => Ok(function),
        }
    }

    /// How its sessions are carried to another instance, if they are.
    pub(super) fn session_state(&self) -> std::result::Result<Option<SessionState>, String> {
        self.table().map_or(Ok(None), Table::session_state)
    }

    /// Of a plugin file: what its instances share.
    pub(super) fn library(&self) -> Option<&'static PluginLibrary> {
        self.table().and_then(|table| table.library)
    }

    fn table(&self) -> Option<&Table> {
        match self {
            Callee::Table(table) => Some(table),
            Callee::Function(_) => None,
        }
    }
}

/// A transform of the host's own, to be registered with an engine and then named in chains.
///
/// ```
/// use resay_plugin::{Call, Error, Map, Setup, Status, Table};
///
/// struct Flip;
///
/// impl resay_plugin::Transform for Flip {
///     type Session = ();
///     fn create(_: &Setup<'_>) -> Result<Self, Error> {
///         Ok(Flip)
///     }
/// }
///
/// impl Map for Flip {
///     fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
///         data.iter_mut().for_each(|byte| *byte ^= 0x20);
///         Status::Ok
///     }
/// }
///
/// static FLIP: Table = Table::map::<Flip>(c"flip").bytewise().build();
///
/// let engine = resay::Engine::builder()
///     .register(resay::Transform::from_table(&FLIP)?)
///     .listen("tcp://127.0.0.1:0")?
///     .chain("flip | uppercase")?
///     .start()?;
/// let client = resay::Client::open(&engine.urls()[0], None)?;
/// client.send(b"ABC", None)?;
/// let mut answer = [0; 8];
/// assert_eq!(client.recv(&mut answer, None)?, 3);
/// assert_eq!(&answer[..3], b"ABC"); // flipped, and then upper-cased
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transform(pub(crate) Callee);

impl Transform {
    /// A transform that is written with the SDK, `resay-plugin`.
    pub fn from_table(table: &'static resay_plugin::Table) -> std::result::Result<Transform, String> {
        // SAFETY: a static table of the SDK keeps the ABI's promises.
        unsafe { Transform::from_raw(table.raw()) }
    }

    /// A transform behind a table of `resay_plugin.h`.
    ///
    /// # Safety
    /// `table` is NULL or points to a `resay_transform` of at least `struct_size` bytes that keeps the promises of
    /// its documentation. It, and all that it points to, stays as it is until the last engine that uses it is gone.
    pub unsafe fn from_raw(table: *const resay_transform) -> std::result::Result<Transform, String> {
        // SAFETY: the caller's.
        unsafe { Table::new(table) }.map(|table| Transform(Callee::Table(table)))
    }

    /// A function of the host's that remembers nothing of connections. It is called for each message (on a raw stream,
    /// for what each read brought) on the worker that has it: by several at once, where there are several. It is dropped
    /// when no chain uses it any more.
    ///
    /// ```
    /// use resay::{Message, Output, Transform, Verdict};
    ///
    /// let shout = Transform::from_fn("shout", |message: &Message<'_>, out: &mut Output<'_>| {
    ///     if message.ends_with(b"!") {
    ///         return Verdict::Pass;
    ///     }
    ///     out.write(message);
    ///     out.write(b"!");
    ///     Verdict::Replace
    /// })?;
    /// let engine =
    ///     resay::Engine::builder().register(shout).listen("tcp://127.0.0.1:0")?.chain("shout")?.start()?;
    /// let client = resay::Client::open(&engine.urls()[0], None)?;
    /// client.send(b"hey", None)?;
    /// let mut answer = [0; 8];
    /// assert_eq!(client.recv(&mut answer, None)?, 4);
    /// assert_eq!(&answer[..4], b"hey!");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fn(
        id: &str,
        call: impl Fn(&Message<'_>, &mut Output<'_>) -> Verdict + Send + Sync + 'static,
    ) -> std::result::Result<Transform, String> {
        check_name(id)?;
        Ok(Transform(Callee::Function(HostFunction::stateless(id, call))))
    }

    /// A function of the host's with sessions: it hears of each connection, may greet its peer, and remembers something
    /// of it.
    ///
    /// ```
    /// use resay::{Conversation, Function, Message, Output, Transform, Verdict};
    ///
    /// /// Numbers the messages of each connection.
    /// struct Number;
    ///
    /// impl Function for Number {
    ///     type Session = u64;
    ///     fn begin(&self, peer: &Conversation<'_>, out: &mut Output<'_>) -> Result<u64, Verdict> {
    ///         out.write(format!("hello, {}", peer.peer()).as_bytes());
    ///         Ok(0)
    ///     }
    ///     fn call(&self, count: &mut u64, message: &Message<'_>, out: &mut Output<'_>) -> Verdict {
    ///         *count += 1;
    ///         out.write(format!("{count} ").as_bytes());
    ///         out.write(message);
    ///         Verdict::Replace
    ///     }
    /// }
    ///
    /// let engine = resay::Engine::builder()
    ///     .register(Transform::from_function("number", Number)?)
    ///     .listen("tcp://127.0.0.1:0?frame=lines")?
    ///     .chain("number")?
    ///     .start()?;
    /// # drop(engine);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_function(id: &str, function: impl Function) -> std::result::Result<Transform, String> {
        check_name(id)?;
        Ok(Transform(Callee::Function(HostFunction::stateful(id, function))))
    }

    /// The same function, with needs. A table names its own, and stays as it is.
    pub fn needing(mut self, needs: Needs) -> Transform {
        if let Callee::Function(function) = &mut self.0 {
            function.set_needs(needs);
        }
        self
    }

    /// The name that chains know it by.
    pub fn id(&self) -> &str {
        self.0.id()
    }
}

fn check_name(id: &str) -> std::result::Result<(), String> {
    if crate::transform::is_name(id) {
        return Ok(());
    }
    Err(format!("the id {id:?} is not a name ([a-z0-9][a-z0-9._-]*)"))
}
