// Weights that a step keeps packed: once for each way that was asked for (instruction set, algorithm).
//
// The list only grows. Threads that miss an entry at the same moment may each make it; none waits for another, so a fork
// finds no lock held.
#pragma once
#include <atomic>
#include <memory>

namespace pycnn {

template <class Packed>
class PackedList {
  public:
    PackedList() = default;
    PackedList(const PackedList&) = delete;
    PackedList& operator=(const PackedList&) = delete;
    ~PackedList() {
        for (Node* node = head_.load(); node;) {
            Node* next = node->next;
            delete node;
            node = next;
        }
    }

    // The entry that matches(packed), or make().
    template <class Matches, class Make>
    const Packed& get(Matches&& matches, Make&& make) {
        for (const Node* node = head_.load(std::memory_order_acquire); node; node = node->next)
            if (matches(node->packed)) return node->packed;
        Node* node = new Node{make(), head_.load(std::memory_order_relaxed)};
        while (!head_.compare_exchange_weak(node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
        }
        return node->packed;
    }

  private:
    struct Node {
        Packed packed;
        Node* next;
    };

    std::atomic<Node*> head_{nullptr};
};

}  // namespace pycnn
