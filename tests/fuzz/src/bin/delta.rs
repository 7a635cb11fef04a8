//! libFuzzer's program for `nave_fuzz::delta`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(delta);
