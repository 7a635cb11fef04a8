//! Blocks that are bombs, or hide something: each is refused with what is wrong with it, and takes no more memory than its
//! chunk.

use nave_delta::{Decoder, Record};

const CHUNK: usize = 4_096;
/// The most bytes that one block of a zstd frame may become.
const MOST: u32 = 128 << 10;

/// A zstd frame by hand: a window or none, what it says that it becomes, and runs of zeros.
fn frame(window: Option<u8>, says: Option<u32>, runs: &[u32]) -> Vec<u8> {
    let descriptor = u8::from(says.is_some()) << 7 | u8::from(window.is_none()) << 5;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    frame.extend(window);
    frame.extend(says.iter().flat_map(|says| says.to_le_bytes()));
    for (at, run) in runs.iter().enumerate() {
        let header = u32::from(at + 1 == runs.len()) | 1 << 1 | run << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&0x184d_2a57_u32.to_le_bytes(), &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// Decodes into a chunk of ones, which become zeros, and says why not.
fn refusal(block: &[u8]) -> Option<String> {
    let stored = u32::try_from(block.len()).unwrap();
    let record = Record { file: 0, chunk: 0, length: CHUNK as u32, base: None, width: 1, offset: 8, stored };
    let mut bytes = vec![1; CHUNK];
    match Decoder::new().unwrap().decode(&record, block, &mut bytes) {
        Ok(()) => {
            assert!(bytes.iter().all(|byte| *byte == 0));
            None
        }
        Err(error) => {
            assert_eq!(error.name(), "BadBlock");
            Some(error.to_string())
        }
    }
}

#[test]
fn what_is_wrong_with_a_block_is_said() {
    let says = Some(CHUNK as u32);
    let good = frame(None, says, &[CHUNK as u32]);
    assert_eq!(refusal(&good), None);
    assert_eq!(refusal(&frame(Some(2 << 3), says, &[CHUNK as u32])), None, "a window of the chunk's length");
    assert_eq!(refusal(&zstd::bulk::compress(&[0; CHUNK], 1).unwrap()), None);

    let with_dictionary = {
        let mut frame = good.clone();
        frame[4] |= 1;
        frame.insert(5, 77);
        frame
    };
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("too short", Vec::new()),
        ("too short", good[..3].to_vec()),
        ("no zstd frame", vec![7; 40]),
        ("header is damaged", good[..6].to_vec()),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("becomes 268435456", frame(None, Some(256 << 20), &[MOST; 2048])),
        ("becomes 4294967295", frame(None, Some(u32::MAX), &[1])),
        ("becomes 4095", frame(None, Some(CHUNK as u32 - 1), &[CHUNK as u32 - 1])),
        ("becomes 0", frame(None, Some(0), &[0])),
        ("does not say how long", frame(Some(0), None, &[CHUNK as u32])),
        ("does not say how long", zstd::stream::encode_all(&[0; CHUNK][..], 1).unwrap()),
        ("header is damaged", frame(Some(0xf8), says, &[CHUNK as u32])),
        ("window of 2147483648 bytes", frame(Some(21 << 3), says, &[CHUNK as u32])),
        ("window of 4608 bytes", frame(Some(2 << 3 | 1), says, &[CHUNK as u32])),
        ("dictionary", with_dictionary),
        ("skippable frame", [skippable(b"hidden"), good.clone()].concat()),
        ("bytes follow", [good.clone(), skippable(b"hidden")].concat()),
        ("bytes follow", [&good[..], b"hidden"].concat()),
        ("bytes follow", good.repeat(2)),
        // It says the right length, and becomes 32,768 times as much, or a byte more, or less.
        ("", frame(None, says, &[MOST; 1024])),
        ("", frame(None, says, &[CHUNK as u32, 1])),
        ("", frame(None, says, &[CHUNK as u32 - 1])),
    ];
    for (why, bomb) in bombs {
        let error = refusal(&bomb).expect(why);
        assert!(error.contains("the 4096 bytes of its chunk") && error.contains(why), "{why}: {error}");
    }
}

/// A frame is looked at before its bytes are let loose: 16 GiB that fit into a chunk's block take no memory at all.
#[test]
fn a_bomb_takes_no_more_memory_than_its_chunk() {
    let bomb = frame(None, Some(CHUNK as u32), &vec![MOST; 131_072]);
    assert!(bomb.len() < 1 << 20);
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    for _ in 0..4 {
        assert!(refusal(&bomb).is_some());
    }
    let grown = resident("VmHWM:") - before;
    assert!(grown < 2 << 20, "{grown} bytes more were resident");
}

fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
