//! libFuzzer's program for `nave_fuzz::delta_catalog`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(delta_catalog);
