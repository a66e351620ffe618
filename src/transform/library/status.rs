//! What a call into a plugin answers.

use std::fmt;

use resay_plugin::abi;

/// Why a call into a plugin failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It said so.
    Status(i32),
    /// It did what the ABI forbids.
    Broken(&'static str),
    /// It panicked before.
    Quarantined,
    /// Its answer is over the limit.
    TooLong,
    /// `session_open` refused.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(abi::RESAY_E_DATA) => f.write_str("the message cannot be transformed"),
            Fault::Status(abi::RESAY_E_CONFIG) => f.write_str("wrong configuration"),
            Fault::Status(abi::RESAY_E_NOMEM) => f.write_str("out of memory"),
            Fault::Status(abi::RESAY_E_UNSUPPORTED) => f.write_str("not supported"),
            Fault::Status(abi::RESAY_E_PANIC) => f.write_str("the transform panicked"),
            Fault::Status(code) => write!(f, "unknown status {code}"),
            Fault::Broken(what) => write!(f, "the transform broke the ABI: {what}"),
            Fault::Quarantined => f.write_str("the transform panicked before and is not used any more"),
            Fault::TooLong => f.write_str("the answer is over the limit"),
            Fault::Refused(reason) => write!(f, "refused the connection: {reason}"),
        }
    }
}

/// What a call into a plugin answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    MoreOut,
    MoreIn,
    Drop,
    Close,
    /// Of several stages: one said Close, and a later one Drop.
    DropAndClose,
    Reset,
    /// Of a function: the answer comes later.
    Later,
    Failed(Fault),
}

impl Status {
    pub(super) fn from_code(code: i32) -> Status {
        match code {
            abi::RESAY_OK => Status::Ok,
            abi::RESAY_MORE_OUT => Status::MoreOut,
            abi::RESAY_MORE_IN => Status::MoreIn,
            abi::RESAY_DROP => Status::Drop,
            abi::RESAY_CLOSE => Status::Close,
            abi::RESAY_RESET => Status::Reset,
            code => Status::Failed(Fault::Status(code)),
        }
    }
}
