//! Byte planes: the first bytes of all elements, then their second bytes, and so on. In numbers that changed a little
//! the high bytes of the XOR are zero; together they are a run of zeros, apart they are noise. Bytes after the last
//! whole element follow as they are.

/// Writes the planes of `bytes`, XORed with `base` where there is one (of the same length), into `planes`.
pub(crate) fn split(bytes: &[u8], base: Option<&[u8]>, width: u8, planes: &mut Vec<u8>) {
    planes.clear();
    planes.resize(bytes.len(), 0);
    match width {
        2 => split_by::<2>(bytes, base, planes),
        4 => split_by::<4>(bytes, base, planes),
        8 => split_by::<8>(bytes, base, planes),
        _ => split_by::<1>(bytes, base, planes),
    }
}

/// The opposite: XORs the elements of `planes` into `bytes`, which holds the base, or zeros where there is none.
pub(crate) fn join_into(planes: &[u8], width: u8, bytes: &mut [u8]) {
    match width {
        2 => join_by::<2>(planes, bytes),
        4 => join_by::<4>(planes, bytes),
        8 => join_by::<8>(planes, bytes),
        _ => join_by::<1>(planes, bytes),
    }
}

fn split_by<const W: usize>(bytes: &[u8], base: Option<&[u8]>, planes: &mut [u8]) {
    let (elements, tail) = bytes.as_chunks::<W>();
    let (wide, tail_out) = planes.split_at_mut(elements.len() * W);
    tail_out.copy_from_slice(tail);
    let base = base.map(|base| base.as_chunks::<W>());
    for (byte, plane) in wide.chunks_exact_mut(elements.len().max(1)).enumerate() {
        match base {
            Some((base, _)) => {
                for ((out, element), base) in plane.iter_mut().zip(elements).zip(base) {
                    *out = element[byte] ^ base[byte];
                }
            }
            None => {
                for (out, element) in plane.iter_mut().zip(elements) {
                    *out = element[byte];
                }
            }
        }
    }
    if let Some((_, base)) = base {
        tail_out.iter_mut().zip(base).for_each(|(out, base)| *out ^= base);
    }
}

fn join_by<const W: usize>(planes: &[u8], bytes: &mut [u8]) {
    let (elements, tail) = bytes.as_chunks_mut::<W>();
    let count = elements.len();
    let (wide, tail_in) = planes.split_at(count * W);
    // One pass over the elements with all planes side by side, each known to be as long as there are elements: the
    // compiler makes vector code of it.
    let planes: [&[u8]; W] = std::array::from_fn(|byte| &wide[byte * count..][..count]);
    for (at, element) in elements.iter_mut().enumerate() {
        for (byte, plane) in element.iter_mut().zip(&planes) {
            *byte ^= plane[at];
        }
    }
    tail.iter_mut().zip(tail_in).for_each(|(byte, tail)| *byte ^= tail);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joining_is_the_opposite_of_splitting(
            pairs in prop::collection::vec(any::<(u8, u8)>(), 0..100), width in prop::sample::select(vec![1u8, 2, 4, 8]),
            with_base in any::<bool>(),
        ) {
            let (bytes, base): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
            let base = with_base.then_some(base);
            let mut planes = Vec::new();
            split(&bytes, base.as_deref(), width, &mut planes);
            let mut back = base.unwrap_or_else(|| vec![0; bytes.len()]);
            join_into(&planes, width, &mut back);
            prop_assert_eq!(back, bytes);
        }
    }

    #[test]
    fn planes_lie_one_after_the_other_and_the_rest_follows() {
        let mut planes = Vec::new();
        split(&[1, 2, 3, 4, 5], None, 2, &mut planes);
        assert_eq!(planes, [1, 3, 2, 4, 5]);
        split(&[1, 2, 3, 4, 5], Some(&[1, 2, 3, 5, 7]), 2, &mut planes);
        assert_eq!(planes, [0, 0, 0, 1, 2]);
    }
}
