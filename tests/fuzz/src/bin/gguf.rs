//! libFuzzer's program for `nave_fuzz::gguf`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(gguf);
