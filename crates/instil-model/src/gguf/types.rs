//! Element types of GGUF tensors: numbers, names, and how many bytes a block takes.

/// An element type that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "the names are those of the format")]
pub enum GgmlType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    BF16,
    /// 4 bits, scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits, scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// 8 bits, scale.
    Q8_0,
    /// 8 bits, scale and sum.
    Q8_1,
    /// 2 bits in super-blocks.
    Q2_K,
    /// 3 bits in super-blocks.
    Q3_K,
    /// 4 bits in super-blocks.
    Q4_K,
    /// 5 bits in super-blocks.
    Q5_K,
    /// 6 bits in super-blocks.
    Q6_K,
    /// 8 bits in super-blocks.
    Q8_K,
    /// 4 bits that choose from sixteen values, scale.
    IQ4_NL,
    /// 4 bits that choose from sixteen values, in super-blocks.
    IQ4_XS,
    /// Three values in 1.6 bits, scale.
    TQ1_0,
    /// Three values in 2 bits, scale.
    TQ2_0,
    /// 4-bit floats, a power of two (OCP Microscaling).
    MXFP4,
}

/// Type, number in the file, elements a block, bytes a block.
const TABLE: [(GgmlType, u32, u64, u64); 20] = [
    (GgmlType::F32, 0, 1, 4),
    (GgmlType::F16, 1, 1, 2),
    (GgmlType::Q4_0, 2, 32, 18),
    (GgmlType::Q4_1, 3, 32, 20),
    (GgmlType::Q5_0, 6, 32, 22),
    (GgmlType::Q5_1, 7, 32, 24),
    (GgmlType::Q8_0, 8, 32, 34),
    (GgmlType::Q8_1, 9, 32, 36),
    (GgmlType::Q2_K, 10, 256, 84),
    (GgmlType::Q3_K, 11, 256, 110),
    (GgmlType::Q4_K, 12, 256, 144),
    (GgmlType::Q5_K, 13, 256, 176),
    (GgmlType::Q6_K, 14, 256, 210),
    (GgmlType::Q8_K, 15, 256, 292),
    (GgmlType::IQ4_NL, 20, 32, 18),
    (GgmlType::IQ4_XS, 23, 256, 136),
    (GgmlType::BF16, 30, 1, 2),
    (GgmlType::TQ1_0, 34, 256, 54),
    (GgmlType::TQ2_0, 35, 256, 66),
    (GgmlType::MXFP4, 39, 32, 17),
];

/// Names of types that exist but are not read here, so that an error can name them.
const UNREAD: [(u32, &str); 15] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (40, "NVFP4"),
];

impl GgmlType {
    /// The type with that number in the file.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// Its number in the file.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// Elements in one block; 1 for the plain float types.
    pub fn block_elements(self) -> u64 {
        self.row().2
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> u64 {
        self.row().3
    }

    fn row(self) -> &'static (Self, u32, u64, u64) {
        TABLE.iter().find(|row| row.0 == self).expect("the table lists every type")
    }
}

/// The name of a type number, also of types that are not read here: `IQ4_XS`, `number 99`.
pub(crate) fn type_name(id: u32) -> String {
    match (GgmlType::from_id(id), UNREAD.iter().find(|row| row.0 == id)) {
        (Some(known), _) => format!("{known:?}"),
        (None, Some((_, name))) => (*name).to_owned(),
        (None, None) => format!("number {id}"),
    }
}
