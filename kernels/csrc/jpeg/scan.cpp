#include "scan.h"

#include <cstring>

namespace hjepa {

bool read_interval(Scan& scan) {
    uint8_t* to = scan.memory;
    while (true) {
        const void* found = std::memchr(scan.next, 0xFF, static_cast<size_t>(scan.end - scan.next));
        if (!found) return false;
        const uint8_t* escape = static_cast<const uint8_t*>(found);
        if (escape + 1 == scan.end) return false;
        const bool stuffed = escape[1] == 0;
        const size_t count = static_cast<size_t>(escape - scan.next) + stuffed;
        std::memcpy(to, scan.next, count);
        to += count;
        scan.next = escape + 2;
        if (stuffed) continue;
        scan.size = static_cast<size_t>(to - scan.memory);
        scan.marker = escape[1];
        std::memset(to, 0, SCAN_SLACK);
        return true;
    }
}

}  // namespace hjepa
