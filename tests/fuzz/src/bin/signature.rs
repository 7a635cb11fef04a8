//! libFuzzer's program for `nave_fuzz::signature`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(signature);
