// Drives the accelerator's ports for hw/cxxrtl.py: load words, run, read the trace back.
// Compiled behind the simulation's own source, which defines cxxrtl_design::p_top.

#include <cstdint>
#include <vector>

namespace {

template <size_t Bits> cxxrtl::value<Bits> &bits(cxxrtl::value<Bits> &port) { return port; }
template <size_t Bits> cxxrtl::value<Bits> &bits(cxxrtl::wire<Bits> &port) { return port.curr; }

template <typename Port> uint32_t number(Port &port) { return bits(port).data[0]; }

struct Write { uint32_t address; uint32_t layer; };

struct Engine {
    cxxrtl_design::p_top top;
    std::vector<Write> writes;
    std::vector<uint8_t> bytes;
    std::vector<uint64_t> layer_ends;

    void tick() {
        top.p_clk.set<bool>(true);
        top.step();
        top.p_clk.set<bool>(false);     // outputs settle in this step
        top.step();
    }
};

}  // namespace

extern "C" {

void *engine_new() {
    auto *engine = new Engine;
    engine->top.p_rst.set<bool>(true);
    for (int k = 0; k < 4; k++) engine->tick();
    engine->top.p_rst.set<bool>(false);
    engine->tick();
    return engine;
}

void engine_delete(void *handle) { delete static_cast<Engine *>(handle); }

// Write `count` words of `channels` bytes from `address` on. Space 0: activations, 1: tape.
void engine_load(void *handle, int space, uint32_t address, const uint8_t *words,
                 uint32_t count, int channels) {
    auto *engine = static_cast<Engine *>(handle);
    auto &payload = bits(engine->top.p_load____payload).data;
    while (!number(engine->top.p_load____ready)) engine->tick();
    engine->top.p_load____valid.set<bool>(true);
    for (uint32_t k = 0; k < count; k++) {
        // space in bit 0, address in bits 1..16, data from bit 17 on
        for (auto &chunk : payload) chunk = 0;
        payload[0] = (space & 1) | (((address + k) & 0xffff) << 1);
        for (int byte = 0; byte < channels; byte++) {
            int position = 17 + 8 * byte;
            uint64_t shifted = uint64_t(words[k * channels + byte]) << (position % 32);
            payload[position / 32] |= uint32_t(shifted);
            if (shifted >> 32) payload[position / 32 + 1] |= uint32_t(shifted >> 32);
        }
        engine->tick();
    }
    engine->top.p_load____valid.set<bool>(false);
}

// Run to the end or for `limit` cycles. Returns the cycles busy, or -1 when not finished or in error.
int64_t engine_run(void *handle, int64_t limit, int channels) {
    auto *engine = static_cast<Engine *>(handle);
    auto &top = engine->top;
    engine->writes.clear();
    engine->bytes.clear();
    engine->layer_ends.clear();
    top.p_start.set<bool>(true);
    engine->tick();
    top.p_start.set<bool>(false);
    top.step();
    for (int64_t cycle = 1; cycle <= limit; cycle++) {
        if (!number(top.p_busy)) return number(top.p_error) ? -1 : cycle - 1;
        if (number(top.p_trace__write)) {
            engine->writes.push_back({number(top.p_trace__address),
                                      uint32_t(engine->layer_ends.size())});
            for (int byte = 0; byte < channels; byte++)
                engine->bytes.push_back(bits(top.p_trace__data).data[byte / 4] >> (8 * (byte % 4)));
        }
        if (number(top.p_trace__layer__done)) engine->layer_ends.push_back(cycle);
        engine->tick();
    }
    return -1;
}

uint64_t engine_writes(void *handle) { return static_cast<Engine *>(handle)->writes.size(); }
uint64_t engine_layers(void *handle) { return static_cast<Engine *>(handle)->layer_ends.size(); }

// Copy the trace: addresses, layer indices, bytes, and the cycle in which each layer ended.
void engine_trace(void *handle, uint32_t *addresses, uint32_t *layers, uint8_t *bytes,
                  uint64_t *ends) {
    auto *engine = static_cast<Engine *>(handle);
    for (size_t k = 0; k < engine->writes.size(); k++) {
        addresses[k] = engine->writes[k].address;
        layers[k] = engine->writes[k].layer;
    }
    std::copy(engine->bytes.begin(), engine->bytes.end(), bytes);
    std::copy(engine->layer_ends.begin(), engine->layer_ends.end(), ends);
}

}  // extern "C"
