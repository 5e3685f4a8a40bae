// What the files of the test program share.
#pragma once

#include <string>

namespace test {

// Counts a check; prints the first failures.
void expect(bool ok, const std::string& what);

// test_training.cpp, for the instruction set in force.
void check_training();

// test_columns.cpp, the same.
void check_columns();

// test_zeros.cpp, the same.
void check_zeros();

// test_sparse.cpp, the same.
void check_sparse();

}  // namespace test
