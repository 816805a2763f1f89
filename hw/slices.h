// Slices of CXXRTL's values in time proportional to the slice.
//
// CXXRTL reads a slice by shifting the whole value, and writes one by rebuilding it: an array whose
// lanes' sums lie side by side in one register takes time that grows with the square of the lanes.
// These specializations touch only the chunks in which the slice lies. They stand in front of the
// simulation's own source and change no meaning: `tests/hw/test_slices.py` compares bit by bit.

#include <cxxrtl/cxxrtl.h>

namespace cxxrtl {

// Bits Start to Stop of `whole`.
template <size_t Stop, size_t Start, size_t Bits>
CXXRTL_ALWAYS_INLINE value<Stop - Start + 1> read_slice(const value<Bits> &whole) {
    constexpr size_t first = Start / 32, shift = Start % 32;
    value<Stop - Start + 1> part;
    for (size_t n = 0; n < part.chunks; n++) {
        uint64_t pair = whole.data[first + n];
        if (shift && first + n + 1 < whole.chunks)
            pair |= uint64_t(whole.data[first + n + 1]) << 32;
        part.data[n] = uint32_t(pair >> shift);
    }
    part.data[part.chunks - 1] &= part.msb_mask;
    return part;
}

// Replace bits Start to Stop of `whole`.
template <size_t Stop, size_t Start, size_t Bits>
CXXRTL_ALWAYS_INLINE void write_slice(value<Bits> &whole, const value<Stop - Start + 1> &part) {
    constexpr size_t first = Start / 32, last = Stop / 32, shift = Start % 32;
    for (size_t n = first; n <= last; n++) {
        uint64_t pair = n - first < part.chunks ? uint64_t(part.data[n - first]) << 32 : 0;
        if (n > first)
            pair |= part.data[n - first - 1];
        uint32_t mask = ~uint32_t(0);
        if (n == first)
            mask &= ~uint32_t(0) << shift;
        if (n == last)
            mask &= ~uint32_t(0) >> (31 - Stop % 32);
        whole.data[n] = (whole.data[n] & ~mask) | (uint32_t(pair >> (32 - shift)) & mask);
    }
}

template <size_t Bits, size_t Stop, size_t Start>
struct slice_expr<const value<Bits>, Stop, Start>
        : public expr_base<slice_expr<const value<Bits>, Stop, Start>> {
    static constexpr size_t bits = Stop - Start + 1;
    const value<Bits> &expr;

    slice_expr(const value<Bits> &expr) : expr(expr) {}
    slice_expr(const slice_expr &) = delete;

    CXXRTL_ALWAYS_INLINE operator value<bits>() const { return val(); }
    CXXRTL_ALWAYS_INLINE value<bits> val() const { return read_slice<Stop, Start>(expr); }
};

template <size_t Bits, size_t Stop, size_t Start>
struct slice_expr<value<Bits>, Stop, Start>
        : public expr_base<slice_expr<value<Bits>, Stop, Start>> {
    static constexpr size_t bits = Stop - Start + 1;
    value<Bits> &expr;

    slice_expr(value<Bits> &expr) : expr(expr) {}
    slice_expr(const slice_expr &) = delete;

    CXXRTL_ALWAYS_INLINE operator value<bits>() const { return val(); }
    CXXRTL_ALWAYS_INLINE value<bits> val() const { return read_slice<Stop, Start>(expr); }
    CXXRTL_ALWAYS_INLINE slice_expr &operator=(const value<bits> &part) {
        write_slice<Stop, Start>(expr, part);
        return *this;
    }
};

}  // namespace cxxrtl
