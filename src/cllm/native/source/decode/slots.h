// What a decoder remembers of each text: keys and values of every layer, and what mechanisms need.
#pragma once

#include <sys/mman.h>

#include <new>
#include <vector>

#include "../shape.h"
#include "panels.h"

namespace cllm {

// Zeros that take no memory until they are written to.
class LazyMemory {
public:
    explicit LazyMemory(size_t bytes) : bytes_(bytes) {
        at_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at_ == MAP_FAILED) throw std::bad_alloc();
    }
    LazyMemory(LazyMemory &&other) : at_(other.at_), bytes_(other.bytes_) { other.bytes_ = 0; }
    LazyMemory(const LazyMemory &) = delete;
    ~LazyMemory() {
        if (bytes_) munmap(at_, bytes_);
    }
    template <class T> T *at(size_t byte) const { return (T *)((char *)at_ + byte); }

private:
    void *at_;
    size_t bytes_;
};

// The first tokens of a text stay when the window moves on: much attention rests on them.
// Source: Xiao 2023, arXiv:2309.17453.
constexpr int64_t kSinks = 4;

// Where everything of a slot lies. Keys of a head stand in panels of kPanel places, values in rows
// of whole vectors; both have room for whole blocks of keys.
struct SlotLayout {
    int64_t context, places, head_width, value_width, kv_heads, layers, width;
    int64_t key_bytes, value_bytes, scale_bytes, head_bytes, layer_bytes, bytes;
    int64_t fade_at = 0, unit_at = 0;

    SlotLayout(const Layout &layout, int64_t number_bytes, bool has_scales) {
        const Shape &s = layout.shape;
        context = s.context, head_width = s.head_width, kv_heads = s.kv_heads;
        layers = s.layers, width = s.width;
        places = (context + 127) / 128 * 128;
        value_width = (head_width + kLanes - 1) / kLanes * kLanes;
        key_bytes = places * head_width * number_bytes;
        value_bytes = places * value_width * number_bytes;
        scale_bytes = has_scales ? places * int64_t(sizeof(float)) : 0;
        head_bytes = key_bytes + value_bytes + 2 * scale_bytes;
        layer_bytes = kv_heads * head_bytes;
        if (layout.schumann == kForget) {
            fade_at = layer_bytes;
            layer_bytes += kv_heads * places * int64_t(sizeof(double));
        }
        if (!layout.lags.empty()) {
            unit_at = layer_bytes;
            layer_bytes += places * width * int64_t(sizeof(float));
        }
        bytes = layers * layer_bytes;
    }
};

template <class E> class Slot {
public:
    explicit Slot(const SlotLayout &layout)
        : l_(layout), memory_(layout.bytes), ids_(layout.context), reach_(layout.context) {}

    int64_t length() const { return length_; }

    // Where the token at `position` of the text is kept.
    int64_t place(int64_t position) const {
        if (position < l_.context) return position;
        int64_t sinks = num_sinks();
        return sinks + (position - sinks) % (l_.context - sinks);
    }
    int64_t num_sinks() const { return std::min(kSinks, l_.context / 2); }
    // Whether the token at an earlier position is still there, seen from the text's end at `end`.
    bool holds(int64_t position, int64_t end) const {
        return position >= 0 && (position < num_sinks() ||
                                 position >= end - (l_.context - num_sinks()));
    }
    int64_t num_places(int64_t length) const { return std::min(length, l_.context); }

    void set(int64_t position, int32_t id, int64_t eos_id) {
        bool begins = position == 0 || ids_[place(position - 1)] == eos_id;
        reach_[place(position)] = begins ? 0 : reach_[place(position - 1)] + 1;
        ids_[place(position)] = id;
    }
    int32_t id(int64_t position) const { return ids_[place(position)]; }
    // How many tokens before this one belong to its document, which begins behind the last end.
    int32_t reach(int64_t position) const { return reach_[place(position)]; }

    void advance(int64_t count) { length_ += count; }
    // False, and all is forgotten, where places of the wanted tokens were given to later ones.
    bool truncate(int64_t length) {
        bool can = length == length_ || (length < length_ && length_ <= l_.context);
        length_ = can ? length : 0;
        return can;
    }
    bool copy(const Slot &from, int64_t length) {
        bool can = length == from.length_ || (length < from.length_ && from.length_ <= l_.context);
        length_ = can ? length : 0;
        if (!can) return false;
        int64_t used = num_places(length);
        std::copy_n(from.ids_.begin(), used, ids_.begin());
        std::copy_n(from.reach_.begin(), used, reach_.begin());
        for (int64_t layer = 0; layer < l_.layers; layer++) {
            for (int64_t h = 0; h < l_.kv_heads; h++) {
                int64_t whole = (used + kPanel - 1) / kPanel * kPanel;
                memcpy(keys(layer, h), from.keys(layer, h),
                           whole * l_.head_width * sizeof(E));
                memcpy(values(layer, h), from.values(layer, h),
                           used * l_.value_width * sizeof(E));
                if (!l_.scale_bytes) continue;
                memcpy(key_scales(layer, h), from.key_scales(layer, h), used * 4);
                memcpy(value_scales(layer, h), from.value_scales(layer, h), used * 4);
            }
            if (l_.fade_at)
                for (int64_t h = 0; h < l_.kv_heads; h++)
                    memcpy(faded(layer, h), from.faded(layer, h), used * 8);
            if (l_.unit_at)
                memcpy(units(layer), from.units(layer), used * l_.width * 4);
        }
        return true;
    }

    E *keys(int64_t layer, int64_t head) const { return memory_.template at<E>(head_at(layer, head)); }
    E *values(int64_t layer, int64_t head) const {
        return memory_.template at<E>(head_at(layer, head) + l_.key_bytes);
    }
    float *key_scales(int64_t layer, int64_t head) const {
        return memory_.template at<float>(head_at(layer, head) + l_.key_bytes + l_.value_bytes);
    }
    float *value_scales(int64_t layer, int64_t head) const {
        return memory_.template at<float>(head_at(layer, head) + l_.key_bytes + l_.value_bytes +
                                          l_.scale_bytes);
    }
    // The running sums of −log σ(forget gate).
    double *faded(int64_t layer, int64_t head) const {
        return memory_.template at<double>(layer * l_.layer_bytes + l_.fade_at) + head * l_.places;
    }
    // What dampening's taps read of earlier tokens: `width` numbers a place.
    float *units(int64_t layer) const {
        return memory_.template at<float>(layer * l_.layer_bytes + l_.unit_at);
    }

private:
    size_t head_at(int64_t layer, int64_t head) const {
        return layer * l_.layer_bytes + head * l_.head_bytes;
    }

    const SlotLayout &l_;
    LazyMemory memory_;
    std::vector<int32_t> ids_, reach_;
    int64_t length_ = 0;
};

}  // namespace cllm
