// Temporary memory of one thread. It is kept between calls: a fresh mapping would cost a page fault
// for every 4 KB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

namespace pyfastnn::engine {

class Scratch {
 public:
  // The calling thread's own.
  static Scratch& of_this_thread() {
    thread_local Scratch scratch;
    return scratch;
  }

  // Gives back, when it ends, what was taken since it began.
  class Frame {
   public:
    explicit Frame(Scratch& scratch)
        : scratch_(scratch), block_(scratch.block_), used_(scratch.used_) {}
    ~Frame() { scratch_.rewind(block_, used_); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    size_t block_, used_;
  };

  // `bytes` bytes, aligned to a cache line, valid until the frame around the call ends.
  void* take(int64_t bytes) {
    const size_t size = (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    while (block_ < blocks_.size() && used_ + size > blocks_[block_].size) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) add_block(size);
    void* result = static_cast<char*>(blocks_[block_].data) + used_;
    used_ += size;
    return result;
  }

  template <class T>
  T* take_array(int64_t count) {
    return static_cast<T*>(take(count * static_cast<int64_t>(sizeof(T))));
  }

  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kFirstBlock = size_t{1} << 20;
  // More than this is given back when the outermost frame ends.
  static constexpr size_t kKeep = size_t{128} << 20;

  struct Block {
    void* data;
    size_t size;
  };

  Scratch() = default;
  ~Scratch() { release(); }

  void add_block(size_t size) {
    size_t total = kFirstBlock;
    for (const Block& block : blocks_) total += block.size;
    if (size < total) size = total;  // doubles, so that few blocks are ever needed
    void* data = std::aligned_alloc(kAlignment, size / kAlignment * kAlignment + kAlignment);
    if (data == nullptr) throw std::bad_alloc();
    blocks_.push_back({data, size});
    block_ = blocks_.size() - 1;
    used_ = 0;
  }

  void rewind(size_t block, size_t used) {
    block_ = block;
    used_ = used;
    if (block != 0 || used != 0) return;
    size_t total = 0;
    for (const Block& b : blocks_) total += b.size;
    if (total > kKeep) release();
  }

  void release() {
    for (const Block& block : blocks_) std::free(block.data);
    blocks_.clear();
    block_ = used_ = 0;
  }

  std::vector<Block> blocks_;
  size_t block_ = 0;  // block in use, and bytes of it that are taken
  size_t used_ = 0;
};

}  // namespace pyfastnn::engine
