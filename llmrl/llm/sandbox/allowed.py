"""What a generated program may use: of Python, of numpy and math, and of the values that they give.

Whatever is not listed here is refused. A name may stand here if what it stands for computes the same from the same
arguments, reads and writes nothing but them, and cannot be changed itself.
"""

import math


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUILTINS = words(
    "abs all any bool complex dict divmod enumerate filter float format frozenset hasattr int isinstance iter len list "
    "map max min next pow print range reversed round set slice sorted str sum tuple zip True False None NotImplemented "
    "Ellipsis ArithmeticError AssertionError AttributeError Exception FloatingPointError IndexError KeyError "
    "LookupError NameError NotImplementedError OverflowError RuntimeError StopIteration TypeError ValueError "
    "ZeroDivisionError"
)

_NUMPY = words(
    # constants and types
    "pi e inf nan euler_gamma newaxis float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 "
    "bool bool_ intp double single int_ float_ complex64 complex128 number generic floating integer signedinteger "
    "unsignedinteger complexfloating finfo iinfo errstate ndarray "
    # new arrays; empty ones are filled with zeros in the child
    "array asarray asanyarray ascontiguousarray asfortranarray asarray_chkfinite copy zeros ones full empty zeros_like "
    "ones_like full_like empty_like arange linspace logspace geomspace eye identity diag diagflat tri tril triu vander "
    "meshgrid indices fromfunction fromiter frombuffer mgrid ogrid r_ c_ s_ index_exp ix_ tril_indices triu_indices "
    "tril_indices_from triu_indices_from diag_indices diag_indices_from mask_indices require "
    # shapes
    "reshape ravel transpose swapaxes moveaxis rollaxis squeeze expand_dims atleast_1d atleast_2d atleast_3d "
    "broadcast_to broadcast_arrays broadcast_shapes concatenate concat stack hstack vstack dstack column_stack "
    "row_stack block split array_split hsplit vsplit dsplit unstack tile repeat flip fliplr flipud rot90 roll pad "
    "append insert delete resize trim_zeros shape size ndim permute_dims matrix_transpose unravel_index "
    "ravel_multi_index ndindex ndenumerate "
    # element by element
    "add subtract multiply divide true_divide floor_divide mod fmod remainder divmod power float_power negative "
    "positive absolute abs fabs sign signbit copysign heaviside sqrt cbrt square reciprocal exp exp2 expm1 log log2 "
    "log10 log1p logaddexp logaddexp2 sin cos tan arcsin arccos arctan arctan2 asin acos atan atan2 sinh cosh tanh "
    "arcsinh arccosh arctanh asinh acosh atanh hypot degrees radians deg2rad rad2deg unwrap sinc i0 floor ceil trunc "
    "rint round around fix clip maximum minimum fmax fmin nan_to_num real_if_close real imag conj conjugate angle "
    "pow isnan isinf isfinite isposinf isneginf isreal iscomplex isrealobj iscomplexobj isscalar iterable spacing "
    "nextafter ldexp frexp modf gcd lcm interp where select piecewise choose greater greater_equal less less_equal "
    "equal not_equal logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not "
    "bitwise_count bitwise_invert bitwise_left_shift bitwise_right_shift invert left_shift right_shift isclose "
    "allclose array_equal array_equiv packbits unpackbits astype "
    # over axes
    "sum prod mean average median std var min max amin amax ptp argmin argmax any all cumsum cumprod cumulative_sum "
    "cumulative_prod diff ediff1d gradient nansum nanprod nanmean nanmedian nanstd nanvar nanmin nanmax nanargmin "
    "nanargmax nancumsum nancumprod percentile quantile nanpercentile nanquantile count_nonzero cov corrcoef histogram "
    "histogram2d histogramdd histogram_bin_edges bincount digitize convolve correlate trapezoid trapz "
    # products
    "dot vdot inner outer matmul matvec vecmat vecdot tensordot einsum einsum_path kron cross trace "
    # order, sets, places
    "sort argsort lexsort partition argpartition searchsorted unique unique_values unique_counts unique_inverse "
    "unique_all in1d isin intersect1d union1d setdiff1d setxor1d nonzero flatnonzero argwhere extract take "
    "take_along_axis put put_along_axis compress place putmask copyto fill_diagonal diagonal "
    # functions
    "vectorize apply_along_axis apply_over_axes frompyfunc polyfit polyval polyadd polysub polymul polydiv polyder "
    "polyint poly roots poly1d hanning hamming blackman bartlett kaiser result_type promote_types can_cast "
    "common_type min_scalar_type issubdtype array2string array_str array_repr"
)
_LINALG = words(
    "norm inv pinv solve lstsq det slogdet eig eigh eigvals eigvalsh svd svdvals qr cholesky matrix_rank matrix_power "
    "multi_dot cond tensorsolve tensorinv cross diagonal matmul matrix_norm matrix_transpose outer tensordot trace "
    "vecdot vector_norm LinAlgError"
)
_FFT = words("fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn hfft ihfft fftfreq rfftfreq fftshift "
             "ifftshift")  # fmt: skip
_OF_MODULE = {
    "numpy": _NUMPY, "numpy.linalg": _LINALG, "numpy.fft": _FFT,
    "numpy.lib.stride_tricks": {"sliding_window_view"},
    "math": {name for name in vars(math) if not name.startswith("_")},
    "__future__": {"annotations"},
    "typing": words("Any Callable Dict Iterable List Optional Sequence Set Tuple Union"),  # of annotations
}  # fmt: skip
DOTTED = {f"{module}.{name}" for module, names in _OF_MODULE.items() for name in names}
MODULES = {*_OF_MODULE, "numpy.lib"}

# What stands behind a dot after a value: an array, a list, a text, a ufunc, ... Nothing that leads from a value to a
# module, a frame, a buffer, or a file; nothing that changes more than the value itself.
ATTRIBUTES = words(
    # arrays and numbers
    "T mT shape size ndim dtype real imag flat itemsize nbytes strides kind name names char astype copy reshape "
    "ravel flatten transpose swapaxes squeeze sum prod mean std var min max argmin argmax ptp cumsum cumprod dot clip "
    "round any all nonzero sort argsort partition argpartition searchsorted take put repeat fill item tolist tobytes "
    "trace diagonal conj conjugate compress choose is_integer as_integer_ratio bit_length bit_count to_bytes "
    "from_bytes numerator denominator hex fromhex "
    # ufuncs, and what functions of linalg and of unique return
    "reduce accumulate reduceat outer at nin nout eigenvalues eigenvectors U S Vh Q R sign logabsdet values counts "
    "indices inverse_indices inverse_counts eps epsneg tiny smallest_normal resolution precision bits order coef "
    "coeffs roots deriv integ "
    # lists, dictionaries, sets, tuples, slices, ranges
    "append extend insert pop remove reverse index count clear get items keys setdefault update popitem add discard "
    "union intersection difference symmetric_difference issubset issuperset isdisjoint intersection_update "
    "difference_update start stop step "
    # texts; format has a rule of its own
    "join split strip lstrip rstrip lower upper title startswith endswith replace find format zfill ljust rjust center "
    "isdigit isalpha args"
)
UNNAMED = "numpy.ndarray"  # may stand in annotations and isinstance alone: called, it is uninitialised memory

# What takes a where= that leaves nothing undefined; elsewhere it needs an out=.
TAKE_WHERE = words(
    "sum prod mean std var min max amin amax any all nansum nanprod nanmean nanstd nanvar nanmin nanmax copyto"
)
# What may be called outside of functions: its value is a number, a text, a tuple, or an array, which is made read-only.
CONSTANT_CALLS = words("float int bool str tuple range slice frozenset abs min max round len sum complex") | {
    f"numpy.{name}" for name in words(
        "array asarray zeros ones full eye identity arange linspace diag concatenate sqrt exp log sin cos tan tanh "
        "arctan deg2rad rad2deg radians degrees float64 float32 int64 int32 abs sum prod mean outer dot finfo iinfo")
} | {path for path in DOTTED if path.startswith("math.")}  # fmt: skip
LIST_CALLS = words("list dict set sorted")  # the same, but made anew for each call
CONSTANT_ATTRIBUTES = words("T shape size ndim real imag dtype eps tiny max min")

REASONS = {  # why well-known ones are not listed
    "draws random numbers: the same state must give the same values": words("random rand randn default_rng shuffle"),
    "reads or writes files": words(
        "load save savez savez_compressed loadtxt savetxt genfromtxt fromregex fromfile tofile memmap dump dumps "
        "DataSource"
    ),
    "changes numpy for the calls to come": words(
        "seterr seterrcall setbufsize set_printoptions setflags typecodes geterrobj"
    ),
    "knows the time": words("datetime64 timedelta64 datetime_as_string busday_count busday_offset is_busday"),
    "leads into the interpreter": words("gi_frame gi_code cr_frame tb_frame tb_next f_back f_globals mro format_map"),
}


def reason(path: str) -> str:
    """The end of the sentence "x is not allowed", for what is not listed."""
    if path.rpartition(".")[2].startswith("_"):
        return ": no attributes that begin with _"
    return next((f": it {why}" for why, names in REASONS.items() if names & {*path.split(".")}), "")
