//! Options that several commands share. Where ComfyUI has a flag for something, it has the same name here.

mod device;
mod folders;
mod guests;
mod outside;
pub(crate) mod size;

pub(crate) use self::{
    device::{DeviceOptions, DevicesOptions},
    folders::{FolderOptions, Folders, SourceOptions},
    guests::{GrantOptions, LimitOptions},
    outside::{NetworkOptions, OutsideOptions},
};
