//! The teachers that come with the library. Each is a crate of its own, because the terms of the weights differ from the licence of the
//! code.

use crate::patch_network::ReceptiveField;

/// The file of the teacher for a patch size; `None` without the feature `built-in-teachers`.
#[cfg(feature = "built-in-teachers")]
pub(super) fn file(field: ReceptiveField) -> Option<&'static [u8]> {
    Some(match field {
        ReceptiveField::P17 => pupilla_teacher_17::TEACHER,
        ReceptiveField::P33 => pupilla_teacher_33::TEACHER,
        ReceptiveField::P65 => pupilla_teacher_65::TEACHER,
    })
}

#[cfg(not(feature = "built-in-teachers"))]
pub(super) fn file(_: ReceptiveField) -> Option<&'static [u8]> {
    None
}
