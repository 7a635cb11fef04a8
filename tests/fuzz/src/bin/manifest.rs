//! libFuzzer's program for `nave_fuzz::manifest`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(manifest);
