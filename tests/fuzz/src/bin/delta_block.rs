//! libFuzzer's program for `nave_fuzz::delta_block`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(delta_block);
