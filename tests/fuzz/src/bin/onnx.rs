//! libFuzzer's program for `nave_fuzz::onnx`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(onnx);
