//! libFuzzer's program for `nave_fuzz::journal`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(journal);
