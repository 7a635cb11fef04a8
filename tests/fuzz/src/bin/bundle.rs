//! libFuzzer's program for `nave_fuzz::bundle`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(bundle);
